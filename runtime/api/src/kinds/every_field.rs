//! Every field that a type of Kubernetes has, found by reading an object of it that has them all.
//!
//! For tests: what no table mentions must be refused by name, and that holds for fields that a later version brings, too.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Value, json};

/// A text that every field that holds a text takes, times included.
const TEXT: &str = "2030-01-01T00:00:00Z";

/// A field that holds a value: its path (`[]` for the items of a list, `*` for the keys of a map), and a value that it can have.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Leaf {
    pub(super) path: String,
    pub(super) value: Value,
}

impl Leaf {
    /// An object with nothing but this field.
    pub(super) fn object(&self) -> Value {
        self.path.split('.').rev().fold(self.value.clone(), |inner, part| match part.strip_suffix("[]") {
            Some(part) => json!({part: [inner]}),
            None => json!({part: inner}),
        })
    }
}

/// The fields of `T`, in the order of its definition, with paths that begin with `root`.
pub(super) fn leaves<T: DeserializeOwned>(root: &str) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    T::deserialize(Every { path: root.to_owned(), leaves: &mut leaves }).expect("the type can be read");
    leaves
}

/// Gives a type whatever it asks for, and notes what that was.
struct Every<'a> {
    path: String,
    leaves: &'a mut Vec<Leaf>,
}

impl Every<'_> {
    fn note(self, value: Value) {
        self.leaves.push(Leaf { path: self.path, value });
    }
}

#[derive(Debug)]
struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.note(json!(1));
            visitor.visit_u8(1)
        })*
    };
}

impl<'de> Deserializer<'de> for Every<'_> {
    type Error = Error;

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64
    }

    forward_to_deserialize_any! { char str string identifier enum unit unit_struct ignored_any }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note(json!(TEXT));
        visitor.visit_str(TEXT)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note(json!(true));
        visitor.visit_bool(true)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note(json!(""));
        visitor.visit_bytes(&[])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Once(Some(Every { path: format!("{}[]", self.path), leaves: self.leaves })))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_struct("", &["*"], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { path: self.path, leaves: self.leaves, left: fields })
    }
}

/// A list of one item.
struct Once<'a>(Option<Every<'a>>);

impl<'de> SeqAccess<'de> for Once<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|item| seed.deserialize(item)).transpose()
    }
}

/// The fields of a struct that have not been given yet.
struct Fields<'a> {
    path: String,
    leaves: &'a mut Vec<Leaf>,
    left: &'static [&'static str],
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let next = self.left.first().map(|field| seed.deserialize(StrDeserializer::new(field)));
        next.transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (field, rest) = self.left.split_first().ok_or_else(|| Error("no field is left".to_owned()))?;
        self.left = rest;
        seed.deserialize(Every { path: format!("{}.{field}", self.path), leaves: self.leaves })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::json;

    use super::leaves;

    #[test]
    fn every_field_is_found_at_any_depth() {
        let leaves = leaves::<PodSpec>("spec");
        for path in [
            "spec.activeDeadlineSeconds",
            "spec.nodeSelector.*",
            "spec.containers[].args[]",
            "spec.containers[].resources.limits.*",
            "spec.containers[].livenessProbe.httpGet.port",
            "spec.volumes[].projected.sources[].serviceAccountToken.path",
        ] {
            assert!(leaves.iter().any(|leaf| leaf.path == path), "{path}");
        }
        let found = leaves.iter().find(|leaf| leaf.path == "spec.hostAliases[].hostnames[]").expect("the field");
        assert_eq!(found.object(), json!({"spec": {"hostAliases": [{"hostnames": ["2030-01-01T00:00:00Z"]}]}}));
    }
}
