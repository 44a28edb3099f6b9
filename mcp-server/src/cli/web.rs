//! Asking other hosts over HTTP, carefully.

/// A client that follows no redirect and asks no proxy.
pub(crate) fn client() -> Result<reqwest::Client, reqwest::Error> {
    // Fails when a provider was installed before, which serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
}

/// An error with its causes, and without the URL, which whoever asked says already.
pub(crate) fn chain(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::new(error.without_url()))
}
