//! Who may use the API.

use anyhow::Result;
use tests::http;

use crate::world::{engine, hook, yaml};

const TOKEN: &str = "0123456789abcdef";

/// Every route there is, and one that is none: by method and path.
const ROUTES: [(&str, &str); 45] = [
    ("GET", "/api/health"),
    ("POST", "/api/health/dismiss"),
    ("POST", "/api/sinks/hook/resume"),
    ("POST", "/api/sinks/hook/record"),
    ("GET", "/api/letters"),
    ("GET", "/api/letters/counts"),
    ("GET", "/api/letters/1"),
    ("PATCH", "/api/letters/1"),
    ("POST", "/api/letters/1/discard"),
    ("POST", "/api/letters/1/retry"),
    ("GET", "/api/sinks/hook/letters"),
    ("GET", "/api/sinks/hook/letters/replay"),
    ("POST", "/api/sinks/hook/letters/replay"),
    ("GET", "/api/sinks/hook/messages"),
    ("POST", "/api/sinks/hook/messages/retry"),
    ("POST", "/api/sinks/hook/messages/1/retry"),
    ("POST", "/api/sinks/hook/messages/1/discard"),
    ("GET", "/api/sinks/hook/trace"),
    ("POST", "/api/sinks/hook/trace"),
    ("GET", "/api/sinks/hook/backfills"),
    ("POST", "/api/sinks/hook/backfills"),
    ("GET", "/api/sinks/hook/backfills/1"),
    ("PUT", "/api/sinks/hook/backfills/1"),
    ("PATCH", "/api/sinks/hook/backfills/1"),
    ("GET", "/api/plugins"),
    ("POST", "/api/plugins"),
    ("POST", "/api/plugins/collect"),
    ("GET", "/api/plugins/a/1.0.0"),
    ("DELETE", "/api/plugins/a/1.0.0"),
    ("GET", "/api/bindings"),
    ("GET", "/api/sinks/hook/bindings"),
    ("POST", "/api/sinks/hook/promote"),
    ("POST", "/api/sinks/hook/rollback"),
    ("POST", "/api/sinks/hook/release"),
    ("GET", "/api/audit"),
    ("GET", "/api/sinks/hook/rollouts"),
    ("POST", "/api/sinks/hook/rollouts"),
    ("GET", "/api/sinks/hook/rollouts/1"),
    ("PATCH", "/api/sinks/hook/rollouts/1"),
    ("GET", "/api/functions/costs"),
    ("GET", "/api/sequin_streams/hook/receive"),
    ("POST", "/api/sequin_streams/hook/receive"),
    ("POST", "/api/sequin_streams/hook/ack"),
    ("POST", "/api/http_pull_consumers/hook/nack"),
    ("GET", "/api/nothing"),
];

#[tokio::test(flavor = "multi_thread")]
async fn b261_nothing_of_the_api_is_told_without_the_token() -> Result<()> {
    let sequin = engine(&yaml(1, "http://127.0.0.1:1", &hook("hook", "", "")))
        .env("SEQUIN_API_TOKEN", TOKEN)
        .start()
        .await?;
    let client = http::client()?;
    for (method, path) in ROUTES {
        let ask = || client.request(method.parse().unwrap(), format!("{}{path}", sequin.url()));
        for request in [ask(), ask().bearer_auth("0123456789abcdeF"), ask().body("{")] {
            assert_eq!(request.send().await?.status().as_u16(), 401, "{method} {path}");
        }
        let answer = ask().bearer_auth(TOKEN).send().await?.status().as_u16();
        assert!(answer != 401 && answer != 405, "{method} {path}: {answer}");
    }
    assert_eq!(sequin.health().await?.0, 200);
    Ok(())
}
