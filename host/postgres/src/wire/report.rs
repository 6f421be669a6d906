//! An error as the server reports it.

use std::fmt;

use tokio_postgres::error::DbError;

use super::cursor::{Cursor, Malformed};

/// `ErrorResponse` or `NoticeResponse`: what matters of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// SQLSTATE.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
    /// The function of the server that said it: the same in all languages.
    pub(crate) routine: String,
}

impl Report {
    /// The body of an `ErrorResponse`. Its texts may be in the server's own encoding if it comes
    /// before the client's is agreed on, so they are taken as far as they are UTF-8.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut report = Self::default();
        let mut cursor = Cursor::new(body, "ErrorResponse");
        loop {
            let field = cursor.u8()?;
            if field == 0 {
                return Ok(report);
            }
            let text = String::from_utf8_lossy(cursor.until_nul()?).into_owned();
            match field {
                b'C' => report.code = text,
                b'M' => report.message = text,
                b'D' => report.detail = Some(text),
                b'H' => report.hint = Some(text),
                b'R' => report.routine = text,
                _ => {}
            }
        }
    }

    pub(crate) fn of(error: &DbError) -> Self {
        Self {
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
            routine: error.routine().unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, "; {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; hint: {hint}")?;
        }
        write!(f, " [{}]", self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_response_is_read_and_a_cut_one_is_an_error() {
        let body =
            b"SFATAL\0VFATAL\0C57P01\0Mterminating\0Dwhy\0Fpostgres.c\0RProcessInterrupts\0\0";
        let report = Report::parse(body).unwrap();
        assert_eq!(report.to_string(), "terminating; why [57P01]");
        assert_eq!(report.routine, "ProcessInterrupts");
        for cut in 0..body.len() {
            assert!(Report::parse(&body[..cut]).is_err(), "cut at {cut}");
        }
    }
}
