//! What runs inside a pod's network while policies are measured: this program again, started as `bench worker ...`.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

/// The port that servers listen on.
pub const PORT: u16 = 8000;

/// The port of a server that is never awake when a connection comes.
const SLEEPY_PORT: u16 = PORT + 1;
/// Connections that wait for it at most.
const BURST: usize = 50;
/// Between two datagrams.
const INTERVAL: Duration = Duration::from_micros(200);
const PATIENCE: Duration = Duration::from_secs(5);
/// What a client's first byte asks for.
const SINK: u8 = b's';
const ECHO: u8 = b'e';

/// `serve`; `send ADDRESS`: datagrams; `listen`: a line for each of them, its time in nanoseconds since the epoch; `connect ADDRESS COUNT`: the median of so many connects in microseconds; `stream ADDRESS MILLISECONDS`: megabytes in a second;
/// `echo ADDRESS COUNT`: the median of so many round trips in microseconds.
///
/// # Errors
/// What the network says.
#[expect(clippy::print_stdout, reason = "the figure is the program's output")]
pub fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let figure = match words.as_slice() {
        ["serve"] => return serve(),
        ["send", address] => return send(address.parse()?),
        ["listen"] => return listen(),
        ["connect", address, count] => connects(address.parse()?, count.parse()?)?,
        ["stream", address, time] => stream(address.parse()?, Duration::from_millis(time.parse()?))?,
        ["echo", address, count] => echo(address.parse()?, count.parse()?)?,
        _ => bail!("a worker does not know `{}`", words.join(" ")),
    };
    println!("{figure}");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "whoever starts a server waits for it")]
fn serve() -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).context("cannot listen")?;
    let sleepy = TcpListener::bind(("0.0.0.0", SLEEPY_PORT)).context("cannot listen")?;
    sleepy.set_nonblocking(true)?;
    thread::spawn(move || serve_sleepily(&sleepy));
    println!("ready");
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || answer(stream));
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "datagrams at a steady pace are what is asked for")]
fn send(address: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    loop {
        // Who is refused goes on.
        let _ = socket.send_to(&[0], address);
        thread::sleep(INTERVAL);
    }
}

fn listen() -> Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", PORT))?;
    let mut output = std::io::stdout().lock();
    loop {
        socket.recv_from(&mut [0])?;
        writeln!(output, "{}", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())?;
    }
}

fn answer(mut stream: TcpStream) {
    let mut buffer = vec![0; 1 << 17];
    if stream.read_exact(&mut buffer[..1]).is_err() {
        return;
    }
    let is_echo = buffer[0] == ECHO;
    let _ = stream.set_nodelay(true);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if is_echo && stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn open(address: SocketAddr, wish: u8) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("no way to {address}"))?;
    stream.set_nodelay(true)?;
    stream.write_all(&[wish])?;
    Ok(stream)
}

/// Connects in bursts that nobody wakes up for: what is measured is the packets' way, not how soon another process runs.
fn connects(address: SocketAddr, count: usize) -> Result<f64> {
    let address = SocketAddr::new(address.ip(), SLEEPY_PORT);
    let mut times = Vec::with_capacity(count);
    while times.len() < count {
        let mut burst = Vec::with_capacity(BURST);
        for _ in 0..BURST {
            let begin = Instant::now();
            burst.push(TcpStream::connect(address).with_context(|| format!("no way to {address}"))?);
            times.push(begin.elapsed());
        }
        // The server closes first: it keeps the port's memory of the connection, and this side does not run out of ports.
        for mut stream in burst {
            let _ = stream.read(&mut [0]);
        }
    }
    Ok(median(times))
}

/// Takes in and closes what has come, now and then.
#[expect(clippy::disallowed_methods, reason = "nothing is to wake it up")]
fn serve_sleepily(listener: &TcpListener) {
    loop {
        thread::sleep(Duration::from_millis(10));
        while listener.accept().is_ok() {}
    }
}

fn stream(address: SocketAddr, time: Duration) -> Result<f64> {
    let mut stream = open(address, SINK)?;
    let block = vec![0; 1 << 17];
    let (begin, mut sent) = (Instant::now(), 0_u32);
    while begin.elapsed() < time {
        stream.write_all(&block)?;
        sent += 1;
    }
    Ok(f64::from(sent) * f64::from(1 << 17) / 1e6 / begin.elapsed().as_secs_f64())
}

fn echo(address: SocketAddr, count: usize) -> Result<f64> {
    let mut stream = open(address, ECHO)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        stream.write_all(&[0])?;
        stream.read_exact(&mut [0])?;
        times.push(begin.elapsed());
    }
    Ok(median(times))
}

/// A server's address, as a worker reads it.
#[must_use]
pub fn at(address: IpAddr) -> String {
    SocketAddr::new(address, PORT).to_string()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
