//! Redis streams: a message is an entry.
//!
//! All messages of a request that go to one stream are appended by one script, which the server runs as
//! a whole: one behind the other, until one is refused; what is behind that is not tried. So a run of one
//! group may ride together, and every reply is looked at.
//!
//! The id of an entry is its change's place in the source's log, so that a repeat (the answer was lost,
//! the engine was killed) is seen: the entry is there. A stream takes no id below its last one. What
//! comes late (its group had to wait while others went on), or from a source whose log begins anew, gets
//! the next id behind the last one; a repeat of such an entry is not seen.

mod entry;
mod route;

use model::BoxFuture;
use model::batch::{Batch, BatchPolicy, Grouping};
use model::message::Message;
use model::route::{Route, RouteError};
use model::sink::{Retry, Sink, SinkError, SinkKind, Verdict};
use options::redis_stream::{Ids, MESSAGES_MAX, Ready};
use redis::{Script, Value};

use crate::redis::Redis;
use crate::{Batching, BuildError};
use entry::Entry;

/// A server keeps what a client sends until it has all of it.
const BYTES_MAX: usize = 8 << 20;
/// One connection: more requests only queue there.
const REQUESTS_MAX: usize = 2;

/// Appends entries until one is refused: `{how many are there, what the next one was refused with}`.
///
/// An id that is not above the last one is of a repeat if the entry is there; else it gets the next one
/// behind the last. `ARGV`: the most entries or an empty text, then for each its id (or `*`), the number
/// of what follows, and fields with values.
const APPEND: &str = r#"
local key, max, at, done = KEYS[1], ARGV[1], 2, 0
local trim = {}
if max ~= '' then trim = {'MAXLEN', '~', max} end
local function add(id, first, last)
  local call = {'XADD', key}
  for _, word in ipairs(trim) do call[#call + 1] = word end
  call[#call + 1] = id
  for i = first, last do call[#call + 1] = ARGV[i] end
  return redis.pcall(unpack(call))
end
while at <= #ARGV do
  local id, count = ARGV[at], tonumber(ARGV[at + 1])
  local first, last = at + 2, at + 1 + count
  local reply = add(id, first, last)
  if type(reply) == 'table' and reply.err and string.find(reply.err, 'equal or smaller', 1, true) then
    if #redis.call('XRANGE', key, id, id) > 0 then
      reply = id
    else
      local newest = redis.call('XINFO', 'STREAM', key)
      local top
      for i = 1, #newest, 2 do
        if newest[i] == 'last-generated-id' then top = newest[i + 1] end
      end
      local ms, seq = string.match(top, '^(%d+)-(%d+)$')
      reply = add(ms .. '-' .. string.format('%.0f', tonumber(seq) + 1), first, last)
    end
  end
  if type(reply) == 'table' and reply.err then return {done, reply.err} end
  done = done + 1
  at = last + 1
end
return {done, ''}
"#;

/// A Redis stream, or several that a router or the table tells apart.
pub(crate) struct RedisStream {
    redis: Redis,
    options: Ready,
    script: Script,
    batching: Batching,
}

impl RedisStream {
    pub(crate) fn new(options: Ready, batching: Batching) -> Result<Self, BuildError> {
        let redis = Redis::new(&options.server)?;
        Ok(Self { redis, options, script: Script::new(APPEND), batching })
    }

    /// The messages by stream, in their order, as long as all went well.
    async fn append(&self, batch: &Batch) -> Result<Vec<Verdict>, SinkError> {
        let messages = batch.messages();
        let mut verdicts: Vec<Verdict> = Vec::with_capacity(messages.len());
        for part in messages.chunk_by(|one, next| self.key(one) == self.key(next)) {
            let mut rest = part;
            while let Some((first, _)) = rest.split_first() {
                let (entries, refused) = entry::entries(rest, &self.options);
                if !entries.is_empty() {
                    let done = self.run(&self.key(first), &entries).await;
                    let (done, error) = match done {
                        Ok(done) => done,
                        Err(error) if verdicts.is_empty() => return Err(error),
                        // The next request begins with it.
                        Err(_) => (0, None),
                    };
                    verdicts.extend(vec![Verdict::Delivered; done]);
                    if done < entries.len() {
                        return self.ended(verdicts, messages.len(), error);
                    }
                }
                rest = rest.get(entries.len()..).unwrap_or_default();
                if let (Some(why), Some((_, behind))) = (refused, rest.split_first()) {
                    verdicts.push(Verdict::Rejected { retry: Retry::Never, error: why });
                    rest = behind;
                }
            }
        }
        Ok(verdicts)
    }

    /// One was refused: what is behind it was not tried.
    fn ended(
        &self,
        mut verdicts: Vec<Verdict>,
        all: usize,
        error: Option<String>,
    ) -> Result<Vec<Verdict>, SinkError> {
        if let Some(said) = error {
            let code = said.split(' ').next().unwrap_or_default().trim_start_matches('-');
            let error = self.redis.refused(code, &said);
            if verdicts.is_empty() {
                return Err(error);
            }
        }
        verdicts.resize(all, Verdict::Untried);
        Ok(verdicts)
    }

    /// How many of the entries are there, and what the next one was refused with.
    async fn run(
        &self,
        key: &str,
        entries: &[Entry<'_>],
    ) -> Result<(usize, Option<String>), SinkError> {
        let mut call = self.script.key(key);
        call.arg(self.options.max_length.map(|most| most.to_string()).unwrap_or_default());
        for Entry { id, fields } in entries {
            call.arg(id.as_ref()).arg(fields.len() * 2);
            for (name, value) in fields {
                call.arg(name.as_ref()).arg(value.as_ref());
            }
        }
        let wanted = self.options.min_replicas;
        let third = u64::try_from(self.options.server.timeout.as_millis() / 3).unwrap_or(u64::MAX);
        let replicas = async |connection: &mut crate::redis::Connection| match wanted {
            0 => Ok(0),
            _ => redis::cmd("WAIT").arg(wanted).arg(third.max(1)).query_async(connection).await,
        };
        let asked = async |connection: &mut crate::redis::Connection| {
            // First those that are there: what comes late would else be appended at each attempt.
            let there: u32 = replicas(connection).await?;
            if there < wanted {
                return Ok((0, String::new(), there));
            }
            let (done, said) = call.invoke_async::<(usize, String)>(connection).await?;
            Ok((done, said, replicas(connection).await?))
        };
        let (done, said, replicas) = self.redis.ask(asked).await?;
        if replicas < wanted {
            // It is sent again: what is there already is known by its place.
            let told = format!("NOREPLICAS {replicas} of {wanted} replicas have what is appended");
            return Err(self.redis.refused("NOREPLICAS", &told));
        }
        Ok((done, Some(said).filter(|said| !said.is_empty())))
    }

    /// The stream of a message.
    fn key(&self, message: &Message) -> String {
        let routed = message.route.as_deref().and_then(|route| route::key(route).ok().flatten());
        let own = || self.options.stream_key.clone();
        let of_table = || match &message.relation {
            Some(relation) => format!("sequin.{}.{}", relation.schema, relation.table),
            None => "sequin".to_owned(),
        };
        routed.map(str::to_owned).or_else(own).unwrap_or_else(of_table)
    }
}

impl Sink for RedisStream {
    fn kind(&self) -> SinkKind {
        SinkKind::Log
    }

    fn batch_policy(&self) -> BatchPolicy {
        BatchPolicy {
            messages_max: self.batching.messages_max.clamp(1, MESSAGES_MAX),
            bytes_max: BYTES_MAX,
            message_bytes_max: None,
            request_overhead: 0,
            // An id and the lengths of fields.
            message_overhead: 256,
            linger: self.batching.linger,
            requests_max: match self.options.ids {
                // In the order of their places, as far as that goes.
                Ids::Position => 1,
                Ids::Time => REQUESTS_MAX,
            },
            grouping: Grouping::Together,
            one_route: true,
        }
    }

    /// Connects, logs in, and looks at the stream, if it is known and there.
    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let key = self.options.stream_key.clone();
            let asked = async |connection: &mut crate::redis::Connection| {
                let Some(key) = &key else {
                    return redis::cmd("PING").query_async::<Value>(connection).await.map(|_| None);
                };
                redis::cmd("TYPE").arg(key).query_async::<String>(connection).await.map(Some)
            };
            match self.redis.ask(asked).await?.as_deref() {
                None | Some("none" | "stream") => Ok(()),
                Some(other) => {
                    let key = key.unwrap_or_default();
                    let told = format!("WRONGTYPE `{key}` is a {other:.20}, and no stream");
                    Err(self.redis.refused("WRONGTYPE", &told))
                }
            }
        })
    }

    fn check_route(&self, route: &Route) -> Result<(), RouteError> {
        route::key(route).map(drop)
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        Box::pin(self.append(batch))
    }
}
