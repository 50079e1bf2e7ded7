//! The fields of a pod's `spec` that the pod agent carries out. One table: a field that is not in it is refused by name.

use super::support::{Support, Table};

use Support::{Any, Only};

const NO: Support = Only(&["false"]);

/// Fields of `spec`. `Only` marks fields that ask for nothing beyond what is done anyway.
pub(super) const SUPPORTED: Table = &[
    ("spec.restartPolicy", Any),
    ("spec.terminationGracePeriodSeconds", Any),
    ("spec.hostname", Any),
    ("spec.hostNetwork", Any),
    ("spec.nodeName", Any),
    ("spec.dnsPolicy", Any),
    ("spec.dnsConfig.nameservers", Any),
    ("spec.dnsConfig.searches", Any),
    ("spec.dnsConfig.options[].name", Any),
    ("spec.dnsConfig.options[].value", Any),
    ("spec.hostAliases[].ip", Any),
    ("spec.hostAliases[].hostnames", Any),
    ("spec.securityContext.runAsUser", Any),
    ("spec.securityContext.runAsGroup", Any),
    ("spec.securityContext.runAsNonRoot", Any),
    ("spec.securityContext.supplementalGroups", Any),
    ("spec.securityContext.seccompProfile.type", Only(&["RuntimeDefault", "Unconfined"])),
    // No node here has a taint.
    ("spec.tolerations", Any),
    // There are no service account tokens; asking for none is fine.
    ("spec.automountServiceAccountToken", NO),
    ("spec.serviceAccountName", Only(&["default"])),
    ("spec.serviceAccount", Only(&["default"])),
    ("spec.enableServiceLinks", Any),
    ("spec.schedulerName", Only(&["default-scheduler"])),
    ("spec.hostPID", NO),
    ("spec.hostIPC", NO),
    ("spec.shareProcessNamespace", NO),
    ("spec.priority", Only(&["0"])),
    ("spec.preemptionPolicy", Only(&["PreemptLowerPriority"])),
    // Judges `spec.initContainers` as well.
    ("spec.containers[].name", Any),
    ("spec.containers[].image", Any),
    ("spec.containers[].imagePullPolicy", Any),
    ("spec.containers[].command", Any),
    ("spec.containers[].args", Any),
    ("spec.containers[].workingDir", Any),
    ("spec.containers[].env[].name", Any),
    ("spec.containers[].env[].value", Any),
    ("spec.containers[].ports[].name", Any),
    ("spec.containers[].ports[].containerPort", Any),
    ("spec.containers[].ports[].hostPort", Any),
    ("spec.containers[].ports[].protocol", Any),
    ("spec.containers[].resources.limits.cpu", Any),
    ("spec.containers[].resources.limits.memory", Any),
    ("spec.containers[].resources.requests.cpu", Any),
    ("spec.containers[].resources.requests.memory", Any),
    ("spec.containers[].securityContext.runAsUser", Any),
    ("spec.containers[].securityContext.runAsGroup", Any),
    ("spec.containers[].securityContext.runAsNonRoot", Any),
    ("spec.containers[].securityContext.readOnlyRootFilesystem", Any),
    ("spec.containers[].securityContext.allowPrivilegeEscalation", Any),
    ("spec.containers[].securityContext.privileged", NO),
    ("spec.containers[].securityContext.capabilities.add", Any),
    ("spec.containers[].securityContext.capabilities.drop", Any),
    ("spec.containers[].securityContext.procMount", Only(&["Default"])),
    ("spec.containers[].securityContext.seccompProfile.type", Only(&["RuntimeDefault", "Unconfined"])),
    ("spec.containers[].stdin", Any),
    ("spec.containers[].stdinOnce", Any),
    ("spec.containers[].tty", Any),
    ("spec.containers[].terminationMessagePath", Only(&["/dev/termination-log"])),
    ("spec.containers[].terminationMessagePolicy", Only(&["File"])),
];
