//! Attachments within a batch: begun before the kernel is changed, finished and answered after.

use std::collections::BTreeSet;
use std::net::IpAddr;

use minipod_model::PodKey;
use minipod_protocol::netd::{Attach, Attached, Code, Dns, Error, Sandbox};
use netd_policy::Change;
use netd_policy::object::Attachment;

use super::Engine;
use crate::attach::{AttachError, Prepared, Record};
use crate::causes;
use crate::command::Reply;
use crate::consistent::{Fresh, NAMESPACE_OF_CONTAINERS, check};
use crate::dns::pod_dns;

/// Who waits for the end of a batch.
#[derive(Debug, Default)]
pub(super) struct Answers {
    attaching: Vec<(Prepared, Dns, Reply<Attached>)>,
    detaching: Vec<(Sandbox, Option<Reply<()>>)>,
    collecting: Vec<Reply<()>>,
}

impl Engine {
    pub(super) fn begin_attach(
        &mut self,
        request: &Attach,
        fresh: Fresh,
        reply: Reply<Attached>,
        answers: &mut Answers,
    ) {
        let is_news = self.objects.merge(fresh);
        self.take_note(is_news);
        if !self.objects.complete() {
            let message = "netd does not know the cluster's objects yet; try again".to_owned();
            let _ = reply.send(Err(Error { code: Code::TryAgainLater, message, details: Vec::new() }));
            return;
        }
        if let Err(error) = check(request.pod.as_ref(), self.objects.index().cluster()) {
            let _ = reply.send(Err(error));
            return;
        }
        let taken = self.addresses_of_objects();
        match self.attacher.prepare(request, &taken, self.clock.now()) {
            Ok(prepared) => {
                let is_news = self.objects.apply(Change::Attached(as_object(prepared.record())));
                self.take_note(is_news);
                let namespace = request.pod.as_ref().map_or(NAMESPACE_OF_CONTAINERS, |pod| &pod.namespace);
                let dns = pod_dns(namespace, &self.objects.index().cluster().options.cluster_dns);
                answers.attaching.push((prepared, dns, reply));
            }
            Err(error) => {
                let _ = reply.send(Err(refusal(&error)));
            }
        }
    }

    pub(super) fn begin_detach(&mut self, sandbox: Sandbox, reply: Option<Reply<()>>, answers: &mut Answers) {
        // One that is being attached in the same batch is released by a later one: its caller has no answer yet.
        if let Some(record) = self.attacher.attachment(&sandbox) {
            let is_news = self.objects.apply(Change::Detached(record.link.clone()));
            self.take_note(is_news);
        }
        answers.detaching.push((sandbox, reply));
    }

    pub(super) fn begin_gc(&mut self, valid: &[Sandbox], reply: Reply<()>, answers: &mut Answers) {
        for sandbox in self.attacher.not_among(valid) {
            self.begin_detach(sandbox, None, answers);
        }
        answers.collecting.push(reply);
    }

    /// Makes and deletes the links of a batch and answers. Where the kernel did not agree, no link is made; links are deleted
    /// all the same, since without its link nothing passes for a pod.
    pub(super) fn finish(&mut self, answers: Answers, enforced: &Result<(), Error>) {
        let mut failures = Vec::new();
        for (sandbox, reply) in answers.detaching {
            let result = self.attacher.detach(&sandbox, self.clock.now()).map(drop).map_err(|error| refusal(&error));
            if let Err(error) = &result {
                tracing::warn!(container_id = %sandbox.container_id, error = %error, "the interface is not released");
                failures.push(error.to_string());
            }
            if let Some(reply) = reply {
                let _ = reply.send(result);
            }
        }
        for reply in answers.collecting {
            let _ = reply.send(gc_result(&failures));
        }
        for (prepared, dns, reply) in answers.attaching {
            let result = match enforced {
                Ok(()) => self.connect(prepared, dns),
                Err(error) => {
                    self.forget(&prepared);
                    self.attacher.cancel(prepared, self.clock.now());
                    Err(error.clone())
                }
            };
            let _ = reply.send(result);
        }
        // An attach that failed has left the intent again.
        let _ = self.enforce();
    }

    fn connect(&mut self, prepared: Prepared, dns: Dns) -> Result<Attached, Error> {
        let record = prepared.record().clone();
        match self.attacher.connect(prepared, dns, self.clock.now()) {
            Ok(attached) => {
                tracing::info!(container_id = %record.sandbox.container_id, link = %record.link, addresses = ?record.addresses, "attached");
                Ok(attached)
            }
            Err(error) => {
                let is_news = self.objects.apply(Change::Detached(record.link));
                self.take_note(is_news);
                let refusal = refusal(&error);
                tracing::warn!(container_id = %record.sandbox.container_id, error = %refusal, "cannot attach");
                Err(refusal)
            }
        }
    }

    fn forget(&mut self, prepared: &Prepared) {
        let is_news = self.objects.apply(Change::Detached(prepared.link().clone()));
        self.take_note(is_news);
    }

    /// Addresses that Pod objects of this node hold: not to be given to another pod while the object says so.
    fn addresses_of_objects(&self) -> BTreeSet<IpAddr> {
        let cluster = self.objects.index().cluster();
        let here = cluster.pods.values().filter(|pod| pod.node.as_ref() == Some(&cluster.options.node));
        here.filter(|pod| !pod.finished && !pod.host_network).flat_map(|pod| pod.addresses.iter().copied()).collect()
    }
}

/// An attachment as the policy index knows it.
pub(super) fn as_object(record: &Record) -> Attachment {
    let (pod, uid, labels) = if let Some(pod) = &record.pod {
        (PodKey::new(&pod.namespace, &pod.name), pod.uid.clone(), None)
    } else {
        let key = PodKey::new(NAMESPACE_OF_CONTAINERS, &record.sandbox.container_id);
        (key, None, Some(record.labels.clone()))
    };
    Attachment { link: record.link.clone(), pod, uid, labels, addresses: record.addresses.clone() }
}

pub(super) fn refusal(error: &AttachError) -> Error {
    Error { code: error.code(), message: error.to_string(), details: causes(error) }
}

fn gc_result(failures: &[String]) -> Result<(), Error> {
    if failures.is_empty() {
        return Ok(());
    }
    let message = format!("{} interfaces are not released; try again", failures.len());
    Err(Error { code: Code::Io, message, details: failures.to_vec() })
}
