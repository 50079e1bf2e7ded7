//! How a pull comes on, drawn on the person's terminal; nothing is drawn where there is none.

use std::collections::BTreeMap;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use minipod_image::{Digest, Event, Progress};

/// One bar over all layers that are fetched.
pub(super) struct Bar {
    bar: ProgressBar,
    received: Mutex<BTreeMap<Digest, u64>>,
}

impl Bar {
    /// A bar on standard error.
    pub(super) fn new() -> Self {
        Self::on(ProgressDrawTarget::stderr())
    }

    /// A bar that nobody sees.
    pub(super) fn hidden() -> Self {
        Self::on(ProgressDrawTarget::hidden())
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        Self { bar, received: Mutex::default() }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn event(&self, event: Event) {
        match event {
            Event::Resolving { reference, registry } => self.bar.set_message(format!("{reference}: asking {registry}")),
            Event::Resolved { missing, present } => {
                self.bar.set_length(missing.iter().map(|(_, size)| size).sum());
                let layers = missing.len();
                self.bar.set_message(format!("{layers} layers to fetch, {present} here already"));
            }
            Event::Received { layer, received } => {
                // A poisoned lock only means that another thread failed while it drew.
                let mut all = self.received.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                all.insert(layer, received);
                self.bar.set_position(all.values().sum());
            }
            Event::Stored { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use minipod_image::{Digest, Event, Progress as _};

    use super::Bar;

    #[test]
    fn a_layer_that_is_fetched_again_is_not_counted_twice() {
        let bar = Bar::hidden();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        bar.event(Event::Resolved { missing: vec![(a.clone(), 100), (b.clone(), 50)], present: 1 });
        for (layer, received) in [(&a, 60), (&b, 50), (&a, 10)] {
            bar.event(Event::Received { layer: layer.clone(), received });
        }
        assert_eq!((bar.bar.position(), bar.bar.length()), (60, Some(150)));
    }
}
