//! What validation says about a field, in the words of apimachinery's `util/validation/field`.

use std::fmt;

use serde_json::{Value, json};

/// One complaint about one field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldError {
    field: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq)]
enum Problem {
    Required(String),
    Invalid(Value, String),
    NotSupported(Value, Vec<&'static str>),
    Forbidden(String),
    Duplicate(Value),
    TooLong(usize),
    TooMany(usize, usize),
}

/// The complaints about one object.
#[derive(Debug, Default)]
pub(crate) struct FieldErrors(pub(crate) Vec<FieldError>);

impl FieldErrors {
    fn push(&mut self, field: impl Into<String>, problem: Problem) {
        self.0.push(FieldError { field: field.into(), problem });
    }

    pub(crate) fn required(&mut self, field: impl Into<String>, detail: &str) {
        self.push(field, Problem::Required(detail.to_owned()));
    }

    pub(crate) fn invalid(&mut self, field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(field, Problem::Invalid(value.into(), detail.into()));
    }

    pub(crate) fn not_supported(&mut self, field: impl Into<String>, value: impl Into<Value>, valid: &[&'static str]) {
        self.push(field, Problem::NotSupported(value.into(), valid.to_vec()));
    }

    pub(crate) fn forbidden(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.push(field, Problem::Forbidden(detail.into()));
    }

    pub(crate) fn duplicate(&mut self, field: impl Into<String>, value: impl Into<Value>) {
        self.push(field, Problem::Duplicate(value.into()));
    }

    pub(crate) fn too_long(&mut self, field: impl Into<String>, bytes: usize) {
        self.push(field, Problem::TooLong(bytes));
    }

    pub(crate) fn too_many(&mut self, field: impl Into<String>, count: usize, most: usize) {
        self.push(field, Problem::TooMany(count, most));
    }

    /// Adds a complaint of `minipod-model` about `value`, if there is one.
    pub(crate) fn check(&mut self, field: impl Into<String>, value: &str, problem: Option<String>) {
        if let Some(problem) = problem {
            self.invalid(field, value, problem);
        }
    }
}

impl FieldError {
    /// The entry of `details.causes`.
    pub(crate) fn cause(&self) -> Value {
        let reason = match self.problem {
            Problem::Required(_) => "FieldValueRequired",
            Problem::Invalid(..) => "FieldValueInvalid",
            Problem::NotSupported(..) => "FieldValueNotSupported",
            Problem::Forbidden(_) => "FieldValueForbidden",
            Problem::Duplicate(_) => "FieldValueDuplicate",
            Problem::TooLong(_) => "FieldValueTooLong",
            Problem::TooMany(..) => "FieldValueTooMany",
        };
        json!({"reason": reason, "message": self.problem.to_string(), "field": self.field})
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required(detail) if detail.is_empty() => f.write_str("Required value"),
            Self::Required(detail) => write!(f, "Required value: {detail}"),
            Self::Invalid(value, detail) => write!(f, "Invalid value: {value}: {detail}"),
            Self::NotSupported(value, valid) => {
                let valid = valid.iter().map(|v| format!("\"{v}\"")).collect::<Vec<_>>().join(", ");
                write!(f, "Unsupported value: {value}: supported values: {valid}")
            }
            Self::Forbidden(detail) => write!(f, "Forbidden: {detail}"),
            Self::Duplicate(value) => write!(f, "Duplicate value: {value}"),
            Self::TooLong(bytes) => write!(f, "Too long: may not be more than {bytes} bytes"),
            Self::TooMany(count, most) => write!(f, "Too many: {count}: must have at most {most} items"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FieldErrors;

    #[test]
    fn complaints_read_as_in_kubernetes() {
        let mut errors = FieldErrors::default();
        errors.required("spec.containers", "");
        errors.invalid("metadata.name", "A", "must be lower case");
        errors.invalid("spec.ports[0].port", 0, "must be between 1 and 65535, inclusive");
        errors.not_supported("spec.type", "Foo", &["A", "B"]);
        errors.forbidden("spec", "may not");
        errors.duplicate("spec.containers[1].name", "a");
        let texts: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.containers: Required value",
                "metadata.name: Invalid value: \"A\": must be lower case",
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.type: Unsupported value: \"Foo\": supported values: \"A\", \"B\"",
                "spec: Forbidden: may not",
                "spec.containers[1].name: Duplicate value: \"a\"",
            ]
        );
    }
}
