//! The channels of Kubernetes' remote command protocol (`v5.channel.k8s.io`, KEP 4006): a message is one byte, its channel, and its
//! data.

/// Bytes for the process.
pub const STDIN: u8 = 0;
/// Bytes from the process.
pub const STDOUT: u8 = 1;
/// Bytes from the process; unused with a terminal.
pub const STDERR: u8 = 2;
/// How the session ended: a `Status`, after which nothing follows.
pub const ERROR: u8 = 3;
/// The size of the terminal: `{"Width": 80, "Height": 24}`.
pub const RESIZE: u8 = 4;
/// Since version 5: the data is the number of the channel that ends.
pub const CLOSE: u8 = 255;
