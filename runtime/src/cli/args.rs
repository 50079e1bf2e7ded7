//! Option values that several commands share.

use std::collections::BTreeMap;
use std::time::Duration;

use super::age;

/// A switch as kubectl takes it: `--wait`, `--wait=true`, `--wait=false`.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither `true` nor `false`")),
    }
}

/// A duration with units.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    age::parse_duration(text)
}

/// `key=value` pairs, separated by commas.
pub(crate) fn pairs(what: &str, texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for part in texts.iter().flat_map(|text| text.split(',')).filter(|part| !part.is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            anyhow::bail!("unexpected {what} `{part}`: give `key=value`");
        };
        map.insert(key.to_owned(), value.to_owned());
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::pairs;

    #[test]
    fn pairs_are_separated_by_commas() {
        let read = pairs("label", &["a=1,b=".to_owned(), "c=x=y".to_owned()]).expect("pairs");
        assert_eq!(read.into_iter().map(|(k, v)| format!("{k}:{v}")).collect::<Vec<_>>(), ["a:1", "b:", "c:x=y"]);
        let error = pairs("label", &["a".to_owned()]).expect_err("refused");
        assert_eq!(error.to_string(), "unexpected label `a`: give `key=value`");
    }
}
