//! A small HTTP/1.1 client for one connection that is kept: little work for each request, so that
//! what is measured is the server.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes read at a time.
const STEP: usize = 16 << 10;

/// A connection, and what was read ahead.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(STEP),
        })
    }

    /// Sends a request and reads the answer, which must say its length.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Response> {
        self.stream.write_all(request).await?;
        let head = self.head().await?;
        let length = header(&head, "content-length").context("an answer without length")?;
        let length: usize = length.parse()?;
        while self.buffer.len() < length {
            self.read().await?;
        }
        let rest = self.buffer.split_off(length);
        let body = std::mem::replace(&mut self.buffer, rest);
        Ok(Response {
            status: status(&head)?,
            body,
        })
    }

    /// Sends a request for server-sent events, and shows the data of each until `[DONE]`.
    pub(crate) async fn stream(&mut self, request: &[u8], mut see: impl FnMut(&str)) -> Result<()> {
        self.stream.write_all(request).await?;
        let head = self.head().await?;
        ensure!(status(&head)? == 200, "a stream was refused: {head}");
        loop {
            // Each event is a chunk of its own, so lines of data are never cut by chunk lengths.
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                let line = String::from_utf8_lossy(&line);
                match line.trim_end().strip_prefix("data: ") {
                    Some("[DONE]") => return Ok(()),
                    Some(data) => see(data),
                    None => {}
                }
            }
            self.read().await?;
        }
    }

    async fn head(&mut self) -> Result<String> {
        loop {
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let rest = self.buffer.split_off(end + 4);
                let head = std::mem::replace(&mut self.buffer, rest);
                return Ok(String::from_utf8(head)?);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<()> {
        self.buffer.reserve(STEP);
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the server hung up");
        Ok(())
    }
}

fn status(head: &str) -> Result<u16> {
    let word = head.split_whitespace().nth(1);
    Ok(word.context("an answer without status")?.parse()?)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
