//! Field selectors (`spec.nodeName=a,status.phase!=Running`) and what a list or watch selects by.

use minipod_model::Selector;
use serde_json::Value;

use crate::kinds::Kind;
use crate::meta;
use crate::status::ApiError;

/// What a list or watch selects.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) labels: Selector,
    pub(crate) fields: FieldSelector,
}

impl Filter {
    pub(crate) fn matches(&self, object: &Value) -> bool {
        (self.labels.is_everything() || self.labels.matches(&meta::labels(object))) && self.fields.matches(object)
    }
}

/// A conjunction of requirements on fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    /// JSON pointer
    pointer: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// # Errors
    /// 400 for a selector that cannot be read or a field that the kind does not offer.
    pub(crate) fn parse(text: &str, kind: &Kind) -> Result<Self, ApiError> {
        let requirements = text.split(',').filter(|part| !part.trim().is_empty()).map(|part| requirement(part, kind));
        requirements.collect::<Result<_, _>>().map(Self)
    }

    fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|requirement| {
            let found = match object.pointer(&requirement.pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Bool(flag)) => flag.to_string(),
                Some(Value::Number(number)) => number.to_string(),
                // A field that is not set is compared as its Go zero value.
                _ if matches!(requirement.pointer.as_str(), "/spec/hostNetwork" | "/spec/unschedulable") => {
                    "false".to_owned()
                }
                _ => String::new(),
            };
            (found == requirement.value) == requirement.equal
        })
    }
}

fn requirement(part: &str, kind: &Kind) -> Result<Requirement, ApiError> {
    let (field, equal, value) = if let Some((field, value)) = part.split_once("!=") {
        (field, false, value)
    } else if let Some((field, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        (field, true, value)
    } else {
        return Err(ApiError::bad_request(format!(
            "invalid selector: '{part}'; can't understand '{part}': use `field=value` or `field!=value`"
        )));
    };
    let field = field.trim();
    let known = field == "metadata.name"
        || (field == "metadata.namespace" && kind.namespaced)
        || kind.selectable.contains(&field);
    if !known {
        return Err(ApiError::bad_request(format!("field label not supported: {field}")));
    }
    let pointer = match field {
        "source" => "/source/component".to_owned(),
        field => format!("/{}", field.replace('.', "/")),
    };
    Ok(Requirement { pointer, equal, value: value.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::FieldSelector;
    use crate::kinds;

    fn selects(text: &str) -> Result<bool, String> {
        let pods = kinds::find("", "v1", "pods").ok_or("no pods")?;
        let selector = FieldSelector::parse(text, pods).map_err(|error| error.to_string())?;
        Ok(selector.matches(&json!({
            "metadata": {"name": "a", "namespace": "x"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"},
        })))
    }

    #[test]
    fn fields_select_as_in_kubernetes() {
        assert_eq!(selects(""), Ok(true));
        assert_eq!(selects("metadata.name=a,spec.nodeName==n"), Ok(true));
        assert_eq!(selects("metadata.name=b"), Ok(false));
        assert_eq!(selects("status.phase!=Succeeded,status.phase!=Failed"), Ok(true));
        assert_eq!(selects("spec.hostNetwork=false"), Ok(true));
        assert_eq!(selects("status.podIP="), Ok(true));
    }

    #[test]
    fn fields_that_are_not_offered_are_refused() {
        assert_eq!(selects("spec.foo=a"), Err("field label not supported: spec.foo".to_owned()));
        assert!(selects("name").is_err());
    }
}
