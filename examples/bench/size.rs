//! How large the program is.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::process::Folder;
use crate::report::Report;

/// Largest program, in MB of 10^6 bytes.
const TARGET: f64 = 40.0;

/// Strips a copy of the program and weighs it; also what `make dist` made, if it did.
pub(crate) async fn measure(agent: &Path, folder: &Folder, report: &mut Report) -> Result<()> {
    let copy = folder.join("stripped");
    let status = Command::new("strip")
        .arg("-o")
        .args([&copy, agent])
        .stdin(Stdio::null())
        .status()
        .await
        .context("'strip' is of binutils, which a C compiler brings")?;
    ensure!(status.success(), "strip ended with {status}");
    report.add(
        "size, release, stripped",
        "MB",
        vec![mb(&copy)?],
        Some(TARGET),
    );
    let name = agent.file_name().context("the agent has no name")?;
    let dist = agent
        .parent()
        .and_then(Path::parent)
        .map(|target| target.join("dist").join(name))
        .filter(|dist| dist.is_file());
    if let Some(dist) = dist {
        report.add("size, dist", "MB", vec![mb(&dist)?], Some(TARGET));
    }
    Ok(())
}

fn mb(path: &Path) -> Result<f64> {
    let bytes = u32::try_from(fs::metadata(path)?.len())?;
    Ok(f64::from(bytes) / 1e6)
}
