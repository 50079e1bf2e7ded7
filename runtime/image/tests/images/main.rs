//! The image crate as its callers see it: real directories, real archives, a real registry. Needs root, because layers have
//! owners, devices and trusted attributes; touches nothing outside its temporary directories and namespaces of its own.

mod archives;
mod builtin;
mod canary;
mod hostile_image;
mod image;
mod layer;
mod layers;
mod node;
mod overlay;
mod registry;
mod store;
mod users;
