//! What a request says: in its query, in its JSON body, or both; the body wins.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use model::pull::LeaseId;
use serde_json::{Map, Value};

use crate::extract::{is_json, not_json};
use crate::reply::{self, Refused};

/// The predecessor's bounds.
const MESSAGES_MAX: u64 = 1_000;
const WAIT_MS_MIN: u64 = 500;
const WAIT_MS_MAX: u64 = 300_000;

pub(super) struct Parameters(Map<String, Value>);

impl Parameters {
    pub(super) fn read(
        query: Vec<(String, String)>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, Refused> {
        let mut all: Map<_, _> =
            query.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        if !body.is_empty() {
            if !is_json(headers) {
                return Err(not_json());
            }
            let given: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
                bad(format!("the body is no JSON object: line {}", error.line()))
            })?;
            all.extend(given);
        }
        Ok(Self(all))
    }

    /// `max_batch_size`, or `batch_size` as it was called before.
    pub(super) fn messages_max(&self) -> Result<usize, Refused> {
        let given = self.0.get("batch_size").or_else(|| self.0.get("max_batch_size"));
        let Some(given) = given else { return Ok(1) };
        let number = match given {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        let number = number.filter(|number| (1..=MESSAGES_MAX).contains(number));
        number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| {
            bad(format!(
                "Invalid `max_batch_size`: it must be an integer between 1 and {MESSAGES_MAX}"
            ))
        })
    }

    /// `wait_for`; without it, it is not waited.
    pub(super) fn wait(&self) -> Result<Duration, Refused> {
        let ms = match self.0.get("wait_for") {
            None => return Ok(Duration::ZERO),
            Some(Value::String(text)) => milliseconds(text),
            Some(Value::Number(number)) => {
                let float = number.as_f64().map(|ms| Duration::try_from_secs_f64(ms / 1_000.0));
                let whole = float.and_then(Result::ok).map(|wait| wait.as_millis());
                whole.and_then(|ms| u64::try_from(ms).ok())
            }
            Some(_) => None,
        };
        let ms = ms.filter(|ms| (WAIT_MS_MIN..=WAIT_MS_MAX).contains(ms));
        ms.map(Duration::from_millis).ok_or_else(|| {
            bad(format!(
                "Invalid `wait_for`: it must be between {WAIT_MS_MIN} and {WAIT_MS_MAX} \
                 milliseconds, or a duration like '60s', '5m' or '1000ms'"
            ))
        })
    }

    /// `ack_ids`.
    pub(super) fn leases(&self) -> Result<Vec<LeaseId>, Refused> {
        let list = self.0.get("ack_ids").and_then(Value::as_array).filter(|list| !list.is_empty());
        let id = |id: &Value| id.as_str().and_then(|id| id.parse().ok());
        let leases = list.and_then(|list| list.iter().map(id).collect());
        leases.ok_or_else(|| {
            bad("Invalid `ack_ids`: it must be a list of one or more UUIDs, as text")
        })
    }
}

/// `60s`, `5m`, `1000ms`; a bare number is in milliseconds, for in a query there are only texts.
fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn bad(summary: impl Into<String>) -> Refused {
    reply::error(StatusCode::BAD_REQUEST, summary)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header};

    use super::*;

    fn read(query: &[(&str, &str)], body: &str) -> Result<Parameters, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/JSON; a=b"));
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Parameters::read(query.collect(), &headers, body.as_bytes())
            .map_err(|refused| refused.status.as_u16())
    }

    fn ms(given: &str) -> Option<u128> {
        let body = format!(r#"{{"wait_for": {given}}}"#);
        read(&[], &body).unwrap().wait().ok().map(|wait| wait.as_millis())
    }

    #[test]
    fn b151_waits_are_milliseconds_or_durations() {
        for (given, wait) in [
            ("500", 500),
            ("300000", 300_000),
            ("500.0", 500),
            ("\"500\"", 500),
            ("\"60s\"", 60_000),
            ("\"5m\"", 300_000),
            ("\"1000ms\"", 1_000),
        ] {
            assert_eq!(ms(given), Some(wait), "{given}");
        }
        for bad in [
            "0",
            "499",
            "300001",
            "-1",
            "1e300",
            "\"6m\"",
            "\"1h\"",
            "\"s\"",
            "\"\"",
            "\"é\"",
            "null",
            "[500]",
            "\"99999999999999999999s\"",
            "\"9999999999999999m\"",
        ] {
            assert_eq!(ms(bad), None, "{bad}");
        }
        assert_eq!(read(&[], "{}").unwrap().wait().unwrap(), Duration::ZERO);
    }

    #[test]
    fn a_batch_size_is_an_integer_in_query_or_body() {
        let size =
            |query: &[(&str, &str)], body: &str| read(query, body).unwrap().messages_max().ok();
        assert_eq!(size(&[], ""), Some(1));
        assert_eq!(size(&[("max_batch_size", "1000")], ""), Some(1_000));
        assert_eq!(size(&[("batch_size", "7"), ("max_batch_size", "9")], ""), Some(7));
        assert_eq!(size(&[("batch_size", "7")], r#"{"batch_size": 8}"#), Some(8));
        for bad in ["0", "1001", "-1", "1.5", "\"x\"", "null", "{}"] {
            assert_eq!(size(&[], &format!(r#"{{"max_batch_size": {bad}}}"#)), None, "{bad}");
        }
    }

    #[test]
    fn ack_ids_are_a_list_of_uuids() {
        let count = |body: &str| read(&[], body).unwrap().leases().ok().map(|leases| leases.len());
        let id = "01234567-89ab-8def-8123-456789abcdef";
        assert_eq!(count(&format!(r#"{{"ack_ids": ["{id}", "{id}"]}}"#)), Some(2));
        for bad in ["[]", "\"x\"", "[\"x\"]", "[1]", "null", &format!("[\"{id}\", \"\"]")] {
            assert_eq!(count(&format!(r#"{{"ack_ids": {bad}}}"#)), None, "{bad}");
        }
        assert_eq!(count("{}"), None);
    }

    #[test]
    fn a_body_is_a_json_object() {
        for bad in ["[]", "{", "x", "1"] {
            assert_eq!(read(&[], bad).err(), Some(400), "{bad}");
        }
        let plain = Parameters::read(vec![], &HeaderMap::new(), b"{}");
        assert_eq!(plain.err().map(|refused| refused.status.as_u16()), Some(415));
    }
}
