//! From a letter to what is sent: the sink's own intake, with a ledger and counters of its own.

use std::sync::Arc;

use model::acks::Settled;
use model::change::{Change, Transaction};
use model::groups::Groups;
use model::message::Message;
use model::outgoing;
use model::plugin::Plugin;
use model::recorded::Reader;
use model::sink::SinkKind;
use model::store::{Letter, Stage, StoredLetter};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::Instead;
use crate::budget::{Charge, ShareCharge, WakeOnDrop};
use crate::desk::Desk;
use crate::intake::Intake;
use crate::ledger::Ledger;
use crate::rollout::{Rolled, Seat};
use crate::spec::SinkSpec;
use crate::status::SinkStatus;

/// What became of a letter's row.
pub(super) enum Made {
    Messages(Vec<(Arc<Message>, (Charge, ShareCharge))>),
    /// The functions have nothing to send for it.
    Filtered,
    Failed(String),
    /// The letter does not have what is needed.
    Impossible(String),
}

pub(super) struct Bench {
    intake: Intake,
    reader: Reader,
}

impl Bench {
    pub(super) fn new(desk: &Desk, instead: Option<&Instead>) -> Self {
        let mut spec = SinkSpec::clone(&desk.burial.spec);
        if let Some(instead) = instead {
            let chains = [&mut spec.filters, &mut spec.routers, &mut spec.transforms];
            for plugin in chains.into_iter().flatten() {
                if plugin.name() == instead.function {
                    *plugin = Arc::<dyn Plugin>::clone(&instead.plugin);
                }
            }
        }
        let spec = Arc::new(spec);
        // What the stream's rows are counted in is not what these are.
        let name = Arc::clone(&spec.name);
        let status =
            Arc::new(SinkStatus { id: Arc::clone(&spec.id), name, ..SinkStatus::default() });
        let mut burial = desk.burial.clone();
        (burial.spec, burial.status) = (Arc::clone(&spec), Arc::clone(&status));
        let rolled = Arc::new(Rolled::nothing(&status));
        let (_, portions) = mpsc::channel(1);
        let (lanes, _) = mpsc::channel(1);
        let intake = Intake {
            spec,
            status,
            ledger: Arc::new(Ledger::new(Settled::default(), Arc::new(Notify::new()))),
            budget: Arc::clone(&desk.budget),
            share: Arc::clone(&desk.share),
            burial,
            portions,
            lanes,
            is_live: false,
            routes: Default::default(),
            shapes: Default::default(),
            rollouts: desk.rollouts.clone(),
            seat: Seat::Replay { except: instead.map(|it| it.function.clone()) },
            rolled,
            _gone: WakeOnDrop(Arc::clone(&desk.budget)),
        };
        Self { intake, reader: Reader::default() }
    }

    /// What somebody edited last of a message is sent as it is; else the row goes through the
    /// functions; and where the row is not known, the message is sent as it was.
    pub(super) async fn make(&mut self, stored: &StoredLetter) -> Made {
        let StoredLetter { letter, original_message, .. } = stored;
        let edited = letter.message.as_ref().filter(|_| original_message.is_some());
        match (edited, &letter.relation, &letter.message) {
            (Some(message), ..) | (None, None, Some(message)) => self.message(letter, message),
            (None, Some(relation), _) => self.change(letter, relation).await,
            (None, None, None) => Made::Impossible(
                "an older version put it aside, and kept no row and no message".to_owned(),
            ),
        }
    }

    async fn change(&mut self, letter: &Letter, relation: &str) -> Made {
        let change = match self.reader.read_of(&letter.input, relation) {
            Ok(change) => change,
            Err(error) => return Made::Impossible(error.to_string()),
        };
        // Its place is its own, whatever was edited.
        let commit_lsn = letter.position.commit_lsn;
        let committed_at = change.transaction.committed_at_us;
        let transaction = Arc::new(Transaction::new(commit_lsn, 0, committed_at));
        let change = Change { position: letter.position, transaction, ..change };
        let (admitted, letters) = self.intake.make(vec![change], Instant::now()).await;
        if let Some(failed) = letters.into_iter().next() {
            return Made::Failed(failed.error);
        }
        let is_meant =
            |message: &Message| letter.stage == Stage::Change || message.output == letter.output;
        let messages = admitted.messages.into_iter();
        let messages: Vec<_> = messages
            .filter(|(message, _)| is_meant(message))
            .map(|(message, charges)| (self.marked(message), charges))
            .collect();
        if messages.is_empty() { Made::Filtered } else { Made::Messages(messages) }
    }

    fn message(&mut self, letter: &Letter, text: &str) -> Made {
        // Where nothing else says where it goes, that goes by its table.
        let known = letter.relation.as_ref();
        let known = known.and_then(|it| self.reader.read_of(&letter.input, it).ok());
        let spec = &self.intake.spec;
        let scope = spec.envelope.scope();
        let mut message = match outgoing::read(text, letter.position, letter.output, scope) {
            Ok(message) => message,
            Err(error) => return Made::Impossible(error.to_string()),
        };
        if spec.sink.kind() == SinkKind::State && message.key.is_none() {
            return Made::Impossible("a state sink needs the `key` of a document".to_owned());
        }
        if let Some(route) = &message.route
            && let Err(error) = spec.sink.check_route(route)
        {
            return Made::Failed(error.to_string());
        }
        if let Some(change) = known {
            message.operation = Some(change.operation);
            message.relation = Some(change.relation);
        }
        let mut keys = letter.keys.iter().copied();
        message.rows = Groups::among([keys.next(), keys.next(), keys.next(), keys.next()]);
        let message = self.marked(Arc::new(message));
        let bytes = message.bytes();
        let charges = (self.intake.budget.charge(bytes), self.intake.share.charge(bytes));
        Made::Messages(vec![(message, charges)])
    }

    /// Who reads a log has to know that the message is not in its place.
    fn marked(&self, message: Arc<Message>) -> Arc<Message> {
        if self.intake.spec.sink.kind() == SinkKind::State {
            return message;
        }
        match outgoing::marked(&message.payload) {
            Some(payload) => {
                Arc::new(Message { payload: payload.into(), ..Message::clone(&message) })
            }
            None => message,
        }
    }
}
