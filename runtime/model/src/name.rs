//! Names as Kubernetes allows them. The messages are the ones that the API server gives (apimachinery
//! `util/validation/validation.go`), so that people find them where they look.

/// The longest DNS label (RFC 1123).
pub const DNS_LABEL_MAX: usize = 63;
/// The longest DNS subdomain name (RFC 1123).
pub const DNS_SUBDOMAIN_MAX: usize = 253;

const LABEL_MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035_MESSAGE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// Why `name` is no RFC 1123 label (namespaces, containers); `None` if it is one.
#[must_use]
pub fn dns_label_problem(name: &str) -> Option<String> {
    if name.len() > DNS_LABEL_MAX {
        return Some(format!("must be no more than {DNS_LABEL_MAX} characters"));
    }
    (!is_dns_label(name)).then(|| LABEL_MESSAGE.to_owned())
}

/// Why `name` is no RFC 1123 subdomain (pods, policies, nodes); `None` if it is one.
#[must_use]
pub fn dns_subdomain_problem(name: &str) -> Option<String> {
    if name.len() > DNS_SUBDOMAIN_MAX {
        return Some(format!("must be no more than {DNS_SUBDOMAIN_MAX} characters"));
    }
    (!name.split('.').all(is_dns_label)).then(|| SUBDOMAIN_MESSAGE.to_owned())
}

/// Why `name` is no RFC 1035 label (services); `None` if it is one.
#[must_use]
pub fn dns_1035_label_problem(name: &str) -> Option<String> {
    if name.len() > DNS_LABEL_MAX {
        return Some(format!("must be no more than {DNS_LABEL_MAX} characters"));
    }
    let ok = is_dns_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase());
    (!ok).then(|| LABEL_1035_MESSAGE.to_owned())
}

/// Why `name` is no port name (IANA service name, RFC 6335): at most 15 characters, lower case, digits and single `-`,
/// with at least one letter. `None` if it is one.
#[must_use]
pub fn port_name_problem(name: &str) -> Option<String> {
    if name.len() > 15 {
        return Some("must be no more than 15 characters".to_owned());
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Some("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        return Some("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        return Some("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Some("must not begin or end with a hyphen".to_owned());
    }
    None
}

fn is_dns_label(part: &str) -> bool {
    !part.is_empty()
        && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !part.starts_with('-')
        && !part.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::{dns_1035_label_problem, dns_label_problem, dns_subdomain_problem, port_name_problem};

    #[test]
    fn names_that_kubernetes_takes_are_taken() {
        for name in ["a", "web", "my-name", "123-abc", "a.b.c"] {
            assert_eq!(dns_subdomain_problem(name), None, "{name}");
        }
        assert_eq!(dns_label_problem("kube-system"), None);
        assert_eq!(dns_1035_label_problem("hello-web"), None);
        assert_eq!(port_name_problem("http-80"), None);
    }

    #[test]
    fn names_that_kubernetes_refuses_are_refused() {
        for name in ["", "-a", "a-", "A", "a_b", "a..b", ".a"] {
            assert!(dns_subdomain_problem(name).is_some(), "{name}");
        }
        assert!(dns_label_problem("a.b").is_some());
        assert!(dns_label_problem(&"a".repeat(64)).is_some());
        assert!(dns_1035_label_problem("1a").is_some());
        for name in ["", "80", "a--b", "-a", "Http", "a-very-long-port-name"] {
            assert!(port_name_problem(name).is_some(), "{name}");
        }
    }
}
