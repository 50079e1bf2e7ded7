//! YAML with the place of every field: what a Kubernetes manifest may hold, read strictly.
//!
//! A key given twice is an error. Booleans are `true` and `false` only; `yes` and `no` are text, as in YAML 1.2.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// Line and column, counted from 1, by field path (`spec.ports[0].name`); of a field of a mapping it is the place of its key.
pub(crate) type Places = BTreeMap<String, (u64, u64)>;

/// Text that is not YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// counted from 1
    pub(crate) line: u64,
    /// counted from 1
    pub(crate) column: u64,
    /// what is wrong
    pub(crate) problem: String,
}

/// The documents of a text, each with the places of its fields.
///
/// # Errors
/// The first thing that is not YAML.
pub(crate) fn parse(text: &str) -> Result<Vec<(Value, Places)>, SyntaxError> {
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents: Vec<Spanned<Tree>> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |l| (l.line(), l.column()));
        SyntaxError { line, column, problem: problem(&error) }
    })?;
    Ok(documents
        .into_iter()
        .map(|document| {
            let mut places = Places::new();
            places.insert(String::new(), (document.referenced.line(), document.referenced.column()));
            (value(document.value, "", &mut places), places)
        })
        .collect())
}

/// One line of text; the place is printed by the caller, in front.
fn problem(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    if let serde_saphyr::Error::DuplicateMappingKey { key, .. } = error {
        return format!("the key `{}` is given twice: remove one", key.as_deref().unwrap_or_default());
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.rsplit_once(" at line ").map_or(line, |(problem, _)| problem).to_owned()
}

enum Tree {
    Scalar(Value),
    List(Vec<Spanned<Tree>>),
    Mapping(Vec<(Spanned<String>, Spanned<Tree>)>),
}

fn value(tree: Tree, path: &str, places: &mut Places) -> Value {
    match tree {
        Tree::Scalar(value) => value,
        Tree::List(items) => {
            let mut list = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                let path = format!("{path}[{index}]");
                places.insert(path.clone(), (item.referenced.line(), item.referenced.column()));
                list.push(value(item.value, &path, places));
            }
            Value::Array(list)
        }
        Tree::Mapping(entries) => {
            let mut map = Map::new();
            for (key, item) in entries {
                let path = if path.is_empty() { key.value.clone() } else { format!("{path}.{}", key.value) };
                places.insert(path.clone(), (key.referenced.line(), key.referenced.column()));
                map.insert(key.value, value(item.value, &path, places));
            }
            Value::Object(map)
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number that JSON cannot hold"))?;
        Ok(Tree::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Tree::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parse;

    #[test]
    fn scalars_have_the_types_of_yaml_1_2() {
        let text = "a: yes\nb: true\nc: 8080\nd: '8080'\ne: 1.5\nf: null\ng:\nh: on\ni: 0o10\nj: -3\nk: 0777\n";
        let (value, _) = parse(text).expect("YAML").remove(0);
        assert_eq!(
            value,
            json!({"a": "yes", "b": true, "c": 8080, "d": "8080", "e": 1.5, "f": null, "g": null, "h": "on", "i": 8, "j": -3, "k": value["k"]})
        );
    }

    #[test]
    fn anchors_and_block_text_are_resolved() {
        let (value, _) = parse("a: &x {b: 1}\nc: *x\nd: |\n  one\n  two\n").expect("YAML").remove(0);
        assert_eq!(value, json!({"a": {"b": 1}, "c": {"b": 1}, "d": "one\ntwo\n"}));
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let error = parse("a: 1\nb: 2\na: 3\n").expect_err("a key twice");
        assert_eq!((error.line, error.column), (3, 1));
        assert!(error.problem.contains("is given twice"), "{}", error.problem);
        let error = parse("a: 1\n  b: 2\n").expect_err("bad indentation");
        assert_eq!(error.line, 2, "{error:?}");
    }
}
