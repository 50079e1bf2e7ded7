//! What tests are made of. The policies are the very files that the documentation shows.

/// The built-in image.
pub const HELLO_IMAGE: &str = "minipod.local/hello-app:1.0";

/// The lesson's first policy: pods `app=hello` take connections from pods `app=foo` only.
pub const HELLO_ALLOW_FROM_FOO: &str = include_str!("../../docs/examples/hello-allow-from-foo.yaml");

/// The lesson's second policy: pods `app=foo` may connect to pods `app=hello`, and to anyone on port 53.
pub const FOO_ALLOW_TO_HELLO: &str = include_str!("../../docs/examples/foo-allow-to-hello.yaml");

/// The second policy without its rule for port 53.
pub const FOO_ALLOW_TO_HELLO_WITHOUT_DNS: &str = "
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata:
  name: foo-allow-to-hello
spec:
  policyTypes:
    - Egress
  podSelector:
    matchLabels:
      app: foo
  egress:
    - to:
        - podSelector:
            matchLabels:
              app: hello
";

/// The lesson's first default policy: nothing comes in.
pub const DENY_ALL_INGRESS: &str = include_str!("../../docs/examples/default-deny-ingress.yaml");

/// Allow everything in, whatever other policies leave out.
pub const ALLOW_ALL_INGRESS: &str = include_str!("../../docs/examples/allow-all-ingress.yaml");

/// Nothing comes in and nothing goes out.
pub const DENY_ALL: &str = include_str!("../../docs/examples/default-deny-all.yaml");

/// The exercise's policy: only pods with `access=true` reach nginx.
pub const NGINX_ACCESS: &str = include_str!("../../docs/examples/nginx-access.yaml");
