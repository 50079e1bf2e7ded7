//! What can go wrong with a registry, told apart by what a person does next.

use std::io;

use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use thiserror::Error;

use crate::config::ConfigError;
use crate::digest::Digest;
use crate::manifest::ManifestError;
use crate::reference::Reference;
use crate::registries::Source;
use crate::store::{LayerError, StoreError};

/// Why an image was not pulled.
#[derive(Debug, Error)]
pub enum PullError {
    /// the registry does not have it
    #[error("image `{reference}` is not in the registry `{registry}`; check name and tag")]
    NotFound {
        /// the image
        reference: String,
        /// the registry that was asked
        registry: String,
    },
    /// the registry wants a login, or hides that there is no such image
    #[error(
        "the registry `{registry}` gives image `{reference}` to nobody without a login, or does not have it; \
         check the name (logins are not supported)"
    )]
    Unauthorized {
        /// the image
        reference: String,
        /// the registry that was asked
        registry: String,
    },
    /// no answer
    #[error("cannot reach the registry `{registry}` for image `{reference}`; {}", advice(*.insecure))]
    Unreachable {
        /// the image
        reference: String,
        /// the registry that was asked
        registry: String,
        /// whether it was asked over plain HTTP
        insecure: bool,
        /// what the client says
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// an answer that is no image
    #[error("the registry `{registry}` refused image `{reference}`; try again later")]
    Refused {
        /// the image
        reference: String,
        /// the registry that was asked
        registry: String,
        /// what it said
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// the connection broke while content came
    #[error("the registry `{registry}` stopped sending {what} of image `{reference}`; try again")]
    Interrupted {
        /// the image
        reference: String,
        /// the registry that was asked
        registry: String,
        /// which part
        what: String,
        /// what the client says
        #[source]
        source: io::Error,
    },
    /// content that is not what its digest says
    #[error(
        "{what} of image `{reference}` from `{registry}` is damaged or forged: its digest is `{actual}`, not `{expected}`; \
         pull again, and if it stays so do not trust the registry"
    )]
    WrongDigest {
        /// the image
        reference: String,
        /// the registry that was asked
        registry: String,
        /// which part
        what: String,
        /// what was to come
        expected: Box<str>,
        /// what came
        actual: Box<str>,
    },
    /// the manifest
    #[error("cannot use the manifest of image `{reference}`")]
    Manifest {
        /// the image
        reference: String,
        /// why
        #[source]
        source: ManifestError,
    },
    /// the configuration
    #[error("cannot use image `{reference}`")]
    Config {
        /// the image
        reference: String,
        /// why
        #[source]
        source: ConfigError,
    },
    /// a layer
    #[error("cannot unpack layer `{layer}` of image `{reference}`")]
    Layer {
        /// the image
        reference: String,
        /// compressed digest of the layer
        layer: Digest,
        /// why
        #[source]
        source: LayerError,
    },
    /// the store
    #[error(transparent)]
    Store(#[from] StoreError),
    /// a thread of ours died
    #[error("the work on image `{reference}` ended early")]
    Aborted {
        /// the image
        reference: String,
        /// how
        #[source]
        source: tokio::task::JoinError,
    },
}

fn advice(insecure: bool) -> &'static str {
    if insecure {
        "check that it runs and that `registries.toml` names the right host and port"
    } else {
        "check the network; a registry without HTTPS needs `insecure = true` in `registries.toml`"
    }
}

/// Names image and registry in every error.
#[derive(Debug, Clone)]
pub(super) struct Blame {
    pub(super) reference: Reference,
    pub(super) source: Source,
}

impl Blame {
    /// The meaning of a client's error while `what` was fetched.
    pub(super) fn client(&self, what: &str, error: OciDistributionError) -> PullError {
        match error {
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::ServerError { code: 404, .. } => self.not_found(),
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::ServerError { code: 401 | 403, .. } => self.unauthorized(),
            OciDistributionError::RegistryError { envelope, url } => {
                let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
                if has(&[OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown, OciErrorCode::NotFound]) {
                    self.not_found()
                } else if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    self.unauthorized()
                } else {
                    self.refused(OciDistributionError::RegistryError { envelope, url })
                }
            }
            OciDistributionError::DigestError(DigestError::VerificationError { expected, actual }) => {
                self.wrong_digest(what, &expected, &actual)
            }
            OciDistributionError::RequestError(error) => self.unreachable(error.into()),
            OciDistributionError::IoError(source) => self.interrupted(what, source),
            other => self.refused(other),
        }
    }

    pub(super) fn unreachable(&self, source: Box<dyn std::error::Error + Send + Sync>) -> PullError {
        PullError::Unreachable {
            reference: self.reference.to_string(),
            registry: self.source.registry.clone(),
            insecure: self.source.insecure,
            source,
        }
    }

    pub(super) fn interrupted(&self, what: &str, source: io::Error) -> PullError {
        PullError::Interrupted {
            reference: self.reference.to_string(),
            registry: self.source.registry.clone(),
            what: what.to_owned(),
            source,
        }
    }

    pub(super) fn wrong_digest(&self, what: &str, expected: &str, actual: &str) -> PullError {
        PullError::WrongDigest {
            reference: self.reference.to_string(),
            registry: self.source.registry.clone(),
            what: what.to_owned(),
            expected: expected.into(),
            actual: actual.into(),
        }
    }

    pub(super) fn manifest(&self, source: ManifestError) -> PullError {
        PullError::Manifest { reference: self.reference.to_string(), source }
    }

    pub(super) fn layer(&self, layer: &Digest, source: LayerError) -> PullError {
        PullError::Layer { reference: self.reference.to_string(), layer: layer.clone(), source }
    }

    pub(super) fn aborted(&self, source: tokio::task::JoinError) -> PullError {
        PullError::Aborted { reference: self.reference.to_string(), source }
    }

    fn not_found(&self) -> PullError {
        PullError::NotFound { reference: self.reference.to_string(), registry: self.source.registry.clone() }
    }

    fn unauthorized(&self) -> PullError {
        PullError::Unauthorized { reference: self.reference.to_string(), registry: self.source.registry.clone() }
    }

    fn refused(&self, source: OciDistributionError) -> PullError {
        PullError::Refused {
            reference: self.reference.to_string(),
            registry: self.source.registry.clone(),
            source: source.into(),
        }
    }
}
