//! A container's environment, and `$(NAME)` in its values, command and arguments (Kubernetes' `third_party/forked/golang/expansion`:
//! an unknown name stays as written, `$$` is a dollar sign).

use std::collections::HashMap;

use k8s_openapi::api::core::v1::EnvVar;

/// Replaces `$(NAME)` by what `lookup` knows.
pub(super) fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The variables of the services, then those that a container's specification declares, each value expanded with those before it.
/// A later one of the same name wins.
pub(super) fn declared(services: &[(String, String)], variables: &[EnvVar]) -> Vec<(String, String)> {
    let mut known = services.to_vec();
    for variable in variables {
        let value = expand(variable.value.as_deref().unwrap_or_default(), |name| {
            known.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        });
        known.push((variable.name.clone(), value));
    }
    known
}

/// Puts environments over each other: of several values for one name the last counts, at the place of the first.
pub(super) fn merge(layers: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let mut order: Vec<(String, String)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (name, value) in layers {
        if let Some(place) = places.get(&name) {
            order[*place].1 = value;
        } else {
            places.insert(name.clone(), order.len());
            order.push((name, value));
        }
    }
    order.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::EnvVar;

    use super::{declared, expand, merge};

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let lookup = |name: &str| match name {
            "A" => Some("1"),
            "EMPTY" => Some(""),
            _ => None,
        };
        assert_eq!(expand(text, lookup), expected);
    }

    #[test]
    fn references_expand_as_in_kubernetes() {
        check("$(A)", "1");
        check("x$(A)y$(A)", "x1y1");
        check("$(EMPTY)", "");
        check("$(NONE)", "$(NONE)");
        check("$$(A)", "$(A)");
        check("$$$(A)", "$1");
        check("$A ${A} $", "$A ${A} $");
        check("$(A", "$(A");
        check("$()", "$()");
    }

    #[test]
    fn a_value_sees_only_the_variables_before_it() {
        let variable =
            |name: &str, value: &str| EnvVar { name: name.into(), value: Some(value.into()), ..EnvVar::default() };
        let declared = |services: &[(String, String)]| {
            declared(services, &[variable("B", "$(A)"), variable("A", "1"), variable("C", "$(A)$(B)")])
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(declared(&[]), [pair("B", "$(A)"), pair("A", "1"), pair("C", "1$(A)")]);
        let of_service = pair("A", "of a service");
        let all = [of_service.clone(), pair("B", "of a service"), pair("A", "1"), pair("C", "1of a service")];
        assert_eq!(declared(&[of_service]), all, "a service's variables are known, and lose");
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(merge([pair("A", "1"), pair("B", "2"), pair("A", "3")]), ["A=3", "B=2"]);
    }
}
