//! What a user meets who got something wrong.

use anyhow::Result;

use crate::world::{engine, hook, yaml};

#[tokio::test(flavor = "multi_thread")]
async fn a_typo_is_told_with_line_column_and_the_nearest_word() -> Result<()> {
    let config = yaml(1, "http://127.0.0.1:1", &hook("hook", "", "    batch_sise: 10\n"));
    let (line, text) =
        config.lines().enumerate().find(|(_, text)| text.contains("batch_sise")).unwrap();
    let column = text.find("batch_sise").unwrap() + 1;
    let (status, output) = engine(&config).start_expecting_failure().await?;
    assert_eq!(status.code(), Some(64), "{output}");
    let place = format!("sequin.yaml:{}:{column}", line + 1);
    assert!(output.contains(&place), "{place} in:\n{output}");
    assert!(output.contains("batch_sise") && output.contains("batch_size"), "{output}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_predecessors_variable_names_the_configuration() -> Result<()> {
    let missing = engine("").env("CONFIG_FILE_PATH", "/nowhere/sequin.yaml");
    let output = missing.command(&["serve"]).await?;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(text.contains("/nowhere/sequin.yaml cannot be read"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_told_at_once_before_anything_starts() -> Result<()> {
    let config = yaml(1, "http://127.0.0.1:1", &hook("hook", "", ""));
    let broken = engine(&config).env("LOG_LEVEL", "==").env("SEQUIN_MEMORY_MB", "lots");
    let (status, output) = broken.start_expecting_failure().await?;
    assert_eq!(status.code(), Some(64), "{output}");
    assert!(output.contains("LOG_LEVEL") && output.contains("SEQUIN_MEMORY_MB"), "{output}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_engine_on_the_same_data_is_refused() -> Result<()> {
    let config = yaml(1, "http://127.0.0.1:1", &hook("hook", "", ""));
    let first = engine(&config).start().await?;
    let data = first.data_dir().display().to_string();
    let second = engine(&config).env("SEQUIN_DATA_DIR", &data);
    let (status, output) = second.start_expecting_failure().await?;
    assert_eq!(status.code(), Some(70), "{output}");
    assert!(output.contains("in use by another process"), "{output}");
    Ok(())
}
