//! Which objects a command means: `pods`, `pods,svc`, `pod web`, `pod/web svc/web`, `all`.
//!
//! Pure. Says what was asked for, not what is there.

use super::kind::{ALL, Kind, UnknownKind};
use super::names::{self, NameError};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// all objects of these kinds, as far as a selector allows
    Kinds(Vec<&'static Kind>),
    /// these objects
    Named(Vec<(&'static Kind, String)>),
}

/// Arguments that mean no objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    /// nothing
    #[error("you must specify the type of resource, e.g. `pods`, `svc` or `pod/web`")]
    Nothing,
    /// an unknown kind
    #[error(transparent)]
    Unknown(#[from] UnknownKind),
    /// `pod pod/web`
    #[error(
        "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (`{0}`)"
    )]
    Mixed(String),
    /// `pod/a/b`, `pod/`
    #[error("arguments in resource/name form have exactly one slash and a name behind it: `{0}`")]
    Form(String),
    /// `pod 'web?'`
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Target {
    /// Reads the arguments.
    ///
    /// # Errors
    /// The first word that means nothing.
    pub(crate) fn parse(words: &[String]) -> Result<Self, TargetError> {
        let Some(first) = words.first() else { return Err(TargetError::Nothing) };
        if first.contains('/') {
            return words.iter().map(|word| named(word)).collect::<Result<_, _>>().map(Self::Named);
        }
        if let Some(mixed) = words.iter().find(|word| word.contains('/')) {
            return Err(TargetError::Mixed(mixed.clone()));
        }
        let kinds = kinds(first)?;
        if words.len() == 1 {
            return Ok(Self::Kinds(kinds));
        }
        let names = &words[1..];
        names.iter().try_for_each(|name| names::check(name))?;
        Ok(Self::Named(kinds.iter().flat_map(|kind| names.iter().map(move |name| (*kind, name.clone()))).collect()))
    }
}

fn named(word: &str) -> Result<(&'static Kind, String), TargetError> {
    match word.split_once('/') {
        Some((kind, name)) if !name.is_empty() && !name.contains('/') => {
            names::check(name)?;
            Ok((Kind::find(kind)?, name.to_owned()))
        }
        _ => Err(TargetError::Form(word.to_owned())),
    }
}

fn kinds(words: &str) -> Result<Vec<&'static Kind>, TargetError> {
    let mut kinds: Vec<&'static Kind> = Vec::new();
    for word in words.split(',') {
        let found = if word == "all" { ALL.to_vec() } else { vec![Kind::find(word)?] };
        for kind in found {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::super::kind::{NETWORK_POLICY, POD, SERVICE};
    use super::{Target, TargetError};

    fn parse(words: &[&str]) -> Result<Target, TargetError> {
        Target::parse(&words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn objects_are_named_in_many_ways() {
        assert_eq!(parse(&["po,svc"]), Ok(Target::Kinds(vec![&POD, &SERVICE])));
        assert_eq!(parse(&["all"]), Ok(Target::Kinds(vec![&POD, &SERVICE])));
        let both = Target::Named(vec![(&POD, "a".to_owned()), (&POD, "b".to_owned())]);
        assert_eq!(parse(&["pod", "a", "b"]), Ok(both));
        let mixed = Target::Named(vec![(&POD, "a".to_owned()), (&NETWORK_POLICY, "b".to_owned())]);
        assert_eq!(parse(&["po/a", "netpol/b"]), Ok(mixed));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        assert_eq!(parse(&[]), Err(TargetError::Nothing));
        assert_eq!(parse(&["pod", "po/a"]), Err(TargetError::Mixed("po/a".to_owned())));
        assert_eq!(parse(&["po/a/b"]), Err(TargetError::Form("po/a/b".to_owned())));
        assert_eq!(parse(&["po/a", "b"]), Err(TargetError::Form("b".to_owned())));
        assert!(matches!(parse(&["deploy"]), Err(TargetError::Unknown(_))));
        assert!(matches!(parse(&["pod", "a", "b?"]), Err(TargetError::Name(_))));
        assert!(matches!(parse(&["pod/b#"]), Err(TargetError::Name(_))));
        assert!(matches!(parse(&["pod", ""]), Err(TargetError::Name(_))));
    }
}
