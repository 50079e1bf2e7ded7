//! What a kind brings to the table, as functions on its own type, and the same functions on plain values for the generic rest.

use std::collections::BTreeSet;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Cluster;
use crate::decode::{TypeError, decode};
use crate::field::{FieldError, FieldErrors};
use crate::meta;

/// What an object is judged by besides itself.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) cluster: &'a Cluster,
    /// claims of the kind that others hold, without the prefix
    pub(crate) taken: &'a BTreeSet<String>,
}

/// Which part of an object an update is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// all but `status`
    Main,
    /// `status` alone
    Status,
    /// `spec.finalizers` of a namespace alone
    Finalizers,
}

/// One kind's rules. Everything is pure; the defaults of the functions do nothing.
pub(crate) trait Strategy {
    type Object: Serialize + DeserializeOwned + Metadata<Ty = ObjectMeta>;

    /// Whether somebody deletes such an object when the last of its `metadata.ownerReferences` is gone.
    const FOLLOWS_OWNERS: bool = false;

    /// Why `name` is no name for such an object.
    fn name_problem(name: &str) -> Option<String>;

    /// Turns spellings that the type cannot read into one that it can.
    fn normalise(_value: &mut Value) {}

    /// The state in which an object begins.
    fn begin(_object: &mut Self::Object) {}

    /// Fills in what the object does not say.
    fn default(_object: &mut Self::Object, _cluster: &Cluster) {}

    /// Refuses, by name, what is known but not supported here.
    fn refuse_unsupported(_value: &Value, _errors: &mut FieldErrors) {}

    fn validate(_object: &Self::Object, _cluster: &Cluster, _errors: &mut FieldErrors) {}

    /// Takes over from the old object what an update may leave out.
    fn inherit(_new: &mut Self::Object, _old: &Self::Object) {}

    fn validate_update(_new: &Self::Object, _old: &Self::Object, _errors: &mut FieldErrors) {}

    fn validate_status(_new: &Self::Object, _errors: &mut FieldErrors) {}

    /// Gives the object what only one object can have.
    fn allocate(_object: &mut Self::Object, _context: &Context<'_>, _errors: &mut FieldErrors) {}

    /// What the object claims for itself alone, without the prefix.
    fn claims(_object: &Self::Object) -> Vec<String> {
        Vec::new()
    }
}

/// An object in its final form, or what is wrong with it.
type Judged = Result<Value, Vec<FieldError>>;

/// A [`Strategy`] on plain values.
pub(crate) struct Ops {
    /// Brings a value into the form that the other functions take.
    pub(crate) normalise: fn(&mut Value),
    /// The paths of fields that the kind does not have; an error for a wrong type.
    pub(crate) unknown_fields: fn(&Value) -> Result<Vec<String>, TypeError>,
    /// Defaults, validates and completes a new object.
    pub(crate) create: fn(&Value, &Context<'_>) -> Judged,
    /// The same for the new state of an object that exists.
    pub(crate) update: fn(&Value, &Value, Part, &Context<'_>) -> Judged,
    /// What a stored object claims.
    pub(crate) claims: fn(&Value) -> Vec<String>,
}

impl Ops {
    pub(crate) const fn of<S: Strategy>() -> Self {
        Self {
            normalise: S::normalise,
            unknown_fields: |value| decode::<S::Object>(value).map(|(_, unknown)| unknown),
            create: create::<S>,
            update: update::<S>,
            claims: |value| decode::<S::Object>(value).map(|(object, _)| S::claims(&object)).unwrap_or_default(),
        }
    }
}

fn create<S: Strategy>(value: &Value, context: &Context<'_>) -> Judged {
    let mut errors = FieldErrors::default();
    let mut object = typed::<S>(value)?;
    refuse_unsupported::<S>(&object, &mut errors)?;
    S::begin(&mut object);
    S::default(&mut object, context.cluster);
    meta::validate(object.metadata(), S::name_problem, &mut errors);
    S::validate(&object, context.cluster, &mut errors);
    if errors.0.is_empty() {
        S::allocate(&mut object, context, &mut errors);
    }
    finish(&object, errors)
}

fn update<S: Strategy>(new: &Value, old: &Value, part: Part, context: &Context<'_>) -> Judged {
    let mut errors = FieldErrors::default();
    let mut object = typed::<S>(new)?;
    match part {
        Part::Status => S::validate_status(&object, &mut errors),
        Part::Finalizers => {}
        Part::Main => {
            let before = typed::<S>(old)?;
            refuse_unsupported::<S>(&object, &mut errors)?;
            S::inherit(&mut object, &before);
            S::default(&mut object, context.cluster);
            meta::validate(object.metadata(), S::name_problem, &mut errors);
            meta::validate_update(new, old, &mut errors);
            S::validate(&object, context.cluster, &mut errors);
            S::validate_update(&object, &before, &mut errors);
            if errors.0.is_empty() {
                S::allocate(&mut object, context, &mut errors);
            }
        }
    }
    finish(&object, errors)
}

fn refuse_unsupported<S: Strategy>(object: &S::Object, errors: &mut FieldErrors) -> Result<(), Vec<FieldError>> {
    if !S::FOLLOWS_OWNERS {
        meta::refuse_owners(object.metadata(), errors);
    }
    S::refuse_unsupported(&plain(object)?, errors);
    Ok(())
}

/// The generic rest has checked the types already; what fails here is a value that it put in itself.
fn typed<S: Strategy>(value: &Value) -> Result<S::Object, Vec<FieldError>> {
    decode(value).map(|(object, _)| object).map_err(|error| {
        let mut errors = FieldErrors::default();
        errors.invalid(error.path, Value::Null, error.problem);
        errors.0
    })
}

fn plain(object: &impl Serialize) -> Judged {
    serde_json::to_value(object).map_err(|error| {
        let mut errors = FieldErrors::default();
        errors.invalid("", Value::Null, error.to_string());
        errors.0
    })
}

fn finish(object: &impl Serialize, errors: FieldErrors) -> Judged {
    if errors.0.is_empty() { plain(object) } else { Err(errors.0) }
}
