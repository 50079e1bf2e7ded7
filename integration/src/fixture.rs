//! What tests are made of: image names, policies of the lesson.

/// The built-in image.
pub const HELLO_IMAGE: &str = "minipod.local/hello-app:1.0";

/// The lesson's first policy: pods `app=hello` take connections from pods `app=foo` only.
pub const HELLO_ALLOW_FROM_FOO: &str = "
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata:
  name: hello-allow-from-foo
spec:
  policyTypes:
  - Ingress
  podSelector:
    matchLabels:
      app: hello
  ingress:
  - from:
    - podSelector:
        matchLabels:
          app: foo
";

/// The lesson's second policy: pods `app=foo` may connect to pods `app=hello`, and to anyone on port 53.
pub const FOO_ALLOW_TO_HELLO: &str = "
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
    - ports:
        - port: 53
          protocol: TCP
        - port: 53
          protocol: UDP
";

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

/// The lesson's default policies.
pub const DENY_ALL_INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: default-deny
spec:
  podSelector: {}
  policyTypes:
    - Ingress
";

/// Allow everything in, whatever else denies by not allowing.
pub const ALLOW_ALL_INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: allow-all
spec:
  podSelector: {}
  ingress:
  - {}
  policyTypes:
  - Ingress
";

/// Deny everything in and out.
pub const DENY_ALL: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: default-deny
spec:
  podSelector: {}
  policyTypes:
    - Ingress
    - Egress
";

/// The exercise's policy: only pods with `access=true` reach nginx.
pub const NGINX_ACCESS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: access-nginx
spec:
  podSelector:
    matchLabels:
      app: nginx
  ingress:
  - from:
    - podSelector:
        matchLabels:
          access: \"true\"
";
