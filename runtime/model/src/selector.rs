//! Label selectors, in the form of an API object (`matchLabels`, `matchExpressions`) and of a query
//! (`app=web,tier in (a,b),!old`). An invalid selector does not parse.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::label::{self, Labels};

/// A conjunction of requirements; without any it selects everything. Requirements are sorted and unique, so that two
/// selectors that say the same are equal and hash alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    requirements: BTreeSet<Requirement>,
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    key: String,
    operator: Operator,
}

/// What is required of the label's value. `NotIn` and `DoesNotExist` also match objects without the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// the label is there with one of these values; never empty
    In(BTreeSet<String>),
    /// the label is missing, or has none of these values; never empty
    NotIn(BTreeSet<String>),
    /// the label is there
    Exists,
    /// the label is missing
    DoesNotExist,
}

/// Why a selector is refused. `path` is relative to the selector, e.g. `matchExpressions[0].values`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct SelectorError {
    /// the field
    pub path: String,
    /// the value that was refused
    pub value: String,
    /// what is wrong with it
    pub problem: String,
}

impl Selector {
    /// Selects everything.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects objects whose label `key` is `value`.
    #[must_use]
    pub fn equals(key: &str, value: &str) -> Self {
        let operator = Operator::In(BTreeSet::from([value.to_owned()]));
        Self { requirements: BTreeSet::from([Requirement { key: key.to_owned(), operator }]) }
    }

    /// Reads the selector of an API object.
    ///
    /// # Errors
    /// The first field that Kubernetes would refuse.
    pub fn from_object(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut requirements = BTreeSet::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            check_key("matchLabels", key)?;
            check_value("matchLabels", value)?;
            requirements
                .insert(Requirement { key: key.clone(), operator: Operator::In(BTreeSet::from([value.clone()])) });
        }
        for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
            requirements.insert(requirement(&format!("matchExpressions[{index}]"), expression)?);
        }
        Ok(Self { requirements })
    }

    /// Reads the selector of a query, the `labelSelector` parameter or `-l` option: `a=b`, `a==b`, `a!=b`, `a in (b,c)`,
    /// `a notin (b,c)`, `a`, `!a`, joined by commas.
    ///
    /// # Errors
    /// The first requirement that cannot be read.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = BTreeSet::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    continue;
                }
                return Err(refuse(
                    "selector",
                    text,
                    "an empty requirement: use `key=value`, `key in (a,b)`, `key` or `!key`",
                ));
            }
            requirements.insert(parse_requirement(part)?);
        }
        Ok(Self { requirements })
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.matches(labels))
    }

    /// The requirements, sorted.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.requirements.iter()
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }
}

impl Requirement {
    /// The label's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is required.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.contains(v)),
            Operator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let key = &self.key;
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Operator::In(values) => write!(f, "{key} in ({})", list(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

fn requirement(path: &str, expression: &LabelSelectorRequirement) -> Result<Requirement, SelectorError> {
    check_key(&format!("{path}.key"), &expression.key)?;
    let values: BTreeSet<String> = expression.values.iter().flatten().cloned().collect();
    let values_path = format!("{path}.values");
    for value in &values {
        check_value(&values_path, value)?;
    }
    let with_values = |make: fn(BTreeSet<String>) -> Operator| {
        if values.is_empty() {
            return Err(refuse(&values_path, "", "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        Ok(make(values.clone()))
    };
    let without_values = |operator: Operator| {
        if values.is_empty() {
            return Ok(operator);
        }
        Err(refuse(&values_path, "", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
    };
    let operator = match expression.operator.as_str() {
        "In" => with_values(Operator::In)?,
        "NotIn" => with_values(Operator::NotIn)?,
        "Exists" => without_values(Operator::Exists)?,
        "DoesNotExist" => without_values(Operator::DoesNotExist)?,
        other => return Err(refuse(&format!("{path}.operator"), other, "not a valid selector operator")),
    };
    Ok(Requirement { key: expression.key.clone(), operator })
}

fn parse_requirement(part: &str) -> Result<Requirement, SelectorError> {
    let set = |rest: &str| -> Option<BTreeSet<String>> {
        let inner = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|v| v.trim().to_owned()).collect())
    };
    let words = |word: &str| part.split_once(word).map(|(key, rest)| (key.trim().to_owned(), rest.to_owned()));
    let (key, operator) = if let Some(key) = part.strip_prefix('!') {
        (key.trim().to_owned(), Operator::DoesNotExist)
    } else if let Some((key, values)) = words(" notin ").or_else(|| words(" notin(").map(|(k, r)| (k, format!("({r}"))))
    {
        (key, Operator::NotIn(set(&values).ok_or_else(|| refuse("selector", part, "expected `key notin (a,b)`"))?))
    } else if let Some((key, values)) = words(" in ").or_else(|| words(" in(").map(|(k, r)| (k, format!("({r}")))) {
        (key, Operator::In(set(&values).ok_or_else(|| refuse("selector", part, "expected `key in (a,b)`"))?))
    } else if let Some((key, value)) = words("!=") {
        (key, Operator::NotIn(BTreeSet::from([value.trim().to_owned()])))
    } else if let Some((key, value)) = words("==").or_else(|| words("=")) {
        (key, Operator::In(BTreeSet::from([value.trim().to_owned()])))
    } else {
        (part.to_owned(), Operator::Exists)
    };
    check_key("selector", &key)?;
    if let Operator::In(values) | Operator::NotIn(values) = &operator {
        for value in values {
            check_value("selector", value)?;
        }
    }
    Ok(Requirement { key, operator })
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn check_key(path: &str, key: &str) -> Result<(), SelectorError> {
    label::key_problem(key).map_or(Ok(()), |problem| Err(refuse(path, key, &problem)))
}

fn check_value(path: &str, value: &str) -> Result<(), SelectorError> {
    label::value_problem(value).map_or(Ok(()), |problem| Err(refuse(path, value, &problem)))
}

fn refuse(path: &str, value: &str, problem: &str) -> SelectorError {
    SelectorError { path: path.to_owned(), value: value.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

    use super::Selector;
    use crate::label::Labels;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[track_caller]
    fn check(selector: &str, pairs: &[(&str, &str)], expected: bool) {
        let selector = Selector::parse(selector).expect("a valid selector");
        assert_eq!(selector.matches(&labels(pairs)), expected, "{selector}");
    }

    #[test]
    fn queries_select_as_kubectl_does() {
        check("", &[], true);
        check("app=web", &[("app", "web")], true);
        check("app==web,tier", &[("app", "web")], false);
        check("app!=web", &[], true);
        check("app in (a, b)", &[("app", "b")], true);
        check("app notin (a,b),x=y", &[("x", "y")], true);
        check("!app", &[("app", "a")], false);
        check("in=1", &[("in", "1")], true);
    }

    #[test]
    fn bad_queries_do_not_parse() {
        for text in ["a=b,,c", "a in b", "=b", "!", "a=b c", "a b"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_selector_reads_back_as_it_prints() {
        for text in ["app=web", "a in (b,c),!d,e", "a notin (x)"] {
            let selector = Selector::parse(text).expect("a valid selector");
            assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
        }
    }

    #[test]
    fn expressions_follow_kubernetes_validation() {
        let expression = |operator: &str, values: &[&str]| LabelSelector {
            match_labels: None,
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "app".into(),
                operator: operator.into(),
                values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
            }]),
        };
        assert!(Selector::from_object(&expression("In", &[])).is_err());
        assert!(Selector::from_object(&expression("Exists", &["a"])).is_err());
        assert!(Selector::from_object(&expression("Near", &["a"])).is_err());
        let not_in = Selector::from_object(&expression("NotIn", &["a"])).expect("valid");
        assert!(not_in.matches(&Labels::new()));
    }
}
