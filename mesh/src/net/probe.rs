//! Looking at this machine's own network from outside the node.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tirami_manifest::key::SecretKey;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::iroh::{IrohOptions, IrohTransport};
use super::transport::NetError;

/// What is sent to see whether datagrams pass.
const DATAGRAM: &[u8] = b"tirami";

/// How long a datagram may take within the machine; chosen.
const DATAGRAM_WITHIN: Duration = Duration::from_secs(1);

/// Sends a datagram from one socket on loopback to another. Answers how long it took.
///
/// # Errors
///
/// What the system says, and [`io::ErrorKind::TimedOut`] when nothing arrived.
pub async fn udp_loopback() -> io::Result<Duration> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (from, to) = (
        UdpSocket::bind(loopback).await?,
        UdpSocket::bind(loopback).await?,
    );
    let (began, address) = (tokio::time::Instant::now(), to.local_addr()?);
    from.send_to(DATAGRAM, address).await?;
    let mut bytes = [0; DATAGRAM.len()];
    loop {
        let arrived = timeout(DATAGRAM_WITHIN, to.recv_from(&mut bytes)).await;
        let (count, sender) = arrived.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if sender == from.local_addr()? && bytes.get(..count) == Some(DATAGRAM) {
            return Ok(began.elapsed());
        }
    }
}

/// A second node for one errand, which can reach `address`: close it afterwards.
///
/// # Errors
///
/// [`NetError::Bind`].
///
/// # Cancel safety
///
/// Safe: nothing is left listening.
pub async fn stranger(secret: &SecretKey, address: SocketAddr) -> Result<IrohTransport, NetError> {
    let ip: IpAddr = match address.ip() {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    IrohTransport::bind(secret, SocketAddr::new(ip, 0), IrohOptions::default()).await
}
