//! Shows messages to a model the way its own chat template says.
//!
//! The template (`tokenizer.chat_template`, jinja) never sees what is said: each message's content is
//! a marker, an index between two private-use characters, and the rendered text is taken apart at the
//! markers. So the parts that come from the template can be read with special tokens and the contents
//! without: text such as `<|im_end|>` in a message is text and ends nothing. It also means that what
//! the template adds depends on roles and on which contents are empty, which is all a
//! [`PromptShape`] tells; and that a template cannot trim or search a content.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, State, context};
use tirami_manifest::job::{Message, PromptShape, Role};

use super::EngineError;

/// Around the index of a message. A private-use character that no known vocabulary contains.
const MARK: char = '\u{10fff3}';

/// Instructions one rendering may take. Chosen: a thousand messages take about a hundred thousand.
const FUEL: u64 = 2_000_000;

/// Longest text that a template may add, in bytes. Chosen.
const ADDED_MAX: usize = 1 << 20;

/// A part of a rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// From the template: special tokens count.
    Frame(String),
    /// The content of the message with this index: special tokens are text.
    Content(usize),
}

/// The chat template of one model.
#[derive(Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl Template {
    pub(super) fn new(source: String, bos: String, eos: String) -> Result<Self, EngineError> {
        let mut environment = Environment::new();
        // What transformers sets, and so what templates are written for.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|e| refused(&e))?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.add_function(
            "raise_exception",
            |reason: String| -> Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, reason))
            },
        );
        environment.set_unknown_method_callback(method);
        environment
            .add_template_owned("chat", source)
            .map_err(|e| refused(&e))?;
        Ok(Self {
            environment,
            bos,
            eos,
        })
    }

    /// The parts of a prompt for messages of these roles; `true` stands for an empty content. An answer that is
    /// begun, as the last message, is shown as the model's own words and goes on.
    fn parts(&self, messages: &[(Role, bool)]) -> Result<Vec<Part>, EngineError> {
        if messages.is_empty() {
            return Err(EngineError::NoMessages);
        }
        let count = messages.len();
        let (messages, begun) = match messages.split_last() {
            Some(((Role::Assistant, false), before)) if !before.is_empty() => (before, true),
            _ => (messages, false),
        };
        let messages: Vec<Value> = messages
            .iter()
            .enumerate()
            .map(|(index, (role, empty))| {
                let content = if *empty {
                    String::new()
                } else {
                    format!("{MARK}{index}{MARK}")
                };
                context! { role => role.name(), content => content }
            })
            .collect();
        let text = self
            .environment
            .get_template("chat")
            .and_then(|template| {
                template.render(context! {
                    messages => messages,
                    add_generation_prompt => true,
                    bos_token => self.bos.as_str(),
                    eos_token => self.eos.as_str(),
                    tools => (),
                })
            })
            .map_err(|e| refused(&e))?;
        if text.len() > ADDED_MAX {
            return Err(EngineError::Template(format!(
                "it makes {} bytes of its own",
                text.len()
            )));
        }
        let mut parts = split(&text, count)?;
        if begun {
            parts.push(Part::Content(count.saturating_sub(1)));
        }
        Ok(parts)
    }

    /// The parts of a prompt.
    pub(super) fn render(&self, messages: &[Message]) -> Result<Vec<Part>, EngineError> {
        let roles: Vec<_> = messages
            .iter()
            .map(|message| (message.role, message.content.is_empty()))
            .collect();
        self.parts(&roles)
    }

    /// Bytes of the prompt, as often as the template repeats a content.
    pub(super) fn bytes(&self, shape: &PromptShape) -> Result<u64, EngineError> {
        let roles: Vec<_> = shape
            .0
            .iter()
            .map(|(role, bytes)| (*role, *bytes == 0))
            .collect();
        let parts = self.parts(&roles)?;
        let bytes = parts.iter().map(|part| match part {
            Part::Frame(text) => u64::try_from(text.len()).unwrap_or(u64::MAX),
            Part::Content(index) => shape.0.get(*index).map_or(0, |m| u64::from(m.1)),
        });
        Ok(bytes.fold(0, u64::saturating_add))
    }
}

/// Takes a rendered prompt apart: every second piece between marks is an index.
fn split(text: &str, messages: usize) -> Result<Vec<Part>, EngineError> {
    let changed = || EngineError::Template("it changes what messages say".to_owned());
    let mut parts = Vec::new();
    let mut open = true;
    for (n, piece) in text.split(MARK).enumerate() {
        open = n % 2 == 1;
        if open {
            let index = piece.parse().ok().filter(|index| *index < messages);
            let index = index.ok_or_else(changed)?;
            parts.push(Part::Content(index));
        } else if !piece.is_empty() {
            parts.push(Part::Frame(piece.to_owned()));
        }
    }
    if open { Err(changed()) } else { Ok(parts) }
}

/// The reason of a failed rendering, for people; the template's own words come first.
fn refused(error: &Error) -> EngineError {
    let what = error
        .detail()
        .map_or_else(|| error.to_string(), str::to_owned);
    EngineError::Template(what.chars().take(300).collect())
}

/// The methods of Python strings and dictionaries that templates call.
fn method(_: &mut State<'_, '_>, on: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let first = args.first();
    let unknown = || Error::new(ErrorKind::UnknownMethod, format!("no method named {name}"));
    if let Some(text) = on.as_str() {
        let cut = first.and_then(Value::as_str);
        let among = |c: char| cut.map_or(c.is_whitespace(), |set| set.contains(c));
        return Ok(match (name, cut) {
            ("strip", _) => text.trim_matches(among).into(),
            ("lstrip", _) => text.trim_start_matches(among).into(),
            ("rstrip", _) => text.trim_end_matches(among).into(),
            ("upper", _) => text.to_uppercase().into(),
            ("lower", _) => text.to_lowercase().into(),
            ("startswith", Some(start)) => text.starts_with(start).into(),
            ("endswith", Some(end)) => text.ends_with(end).into(),
            ("split", Some(at)) => text.split(at).map(Value::from).collect(),
            ("replace", Some(from)) => {
                let to = args.get(1).and_then(Value::as_str).ok_or_else(unknown)?;
                text.replace(from, to).into()
            }
            _ => return Err(unknown()),
        });
    }
    match (name, first) {
        ("get", Some(key)) => {
            let found = on.get_item(key)?;
            Ok(if found.is_undefined() {
                args.get(1).cloned().unwrap_or(Value::from(()))
            } else {
                found
            })
        }
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for message in messages %}\n  {% if message.content is string %}\n\
        {{ '<|im_start|>' + message.role + '\\n' + message['content'] | trim + '<|im_end|>' }}\n\
        {% endif %}\n{% endfor %}\n{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}\
        {% endif %}";

    fn template(source: &str) -> Template {
        Template::new(source.to_owned(), "<s>".to_owned(), "</s>".to_owned()).unwrap()
    }

    fn message(role: Role, content: &str) -> Message {
        Message {
            role,
            content: content.to_owned(),
        }
    }

    fn show(template: &Template, messages: &[Message]) -> String {
        let parts = template.render(messages).unwrap();
        parts
            .iter()
            .map(|part| match part {
                Part::Frame(text) => text.as_str(),
                Part::Content(index) => messages[*index].content.as_str(),
            })
            .collect()
    }

    #[test]
    fn a_prompt_is_what_the_template_says() {
        let messages = [
            message(Role::System, "Be brief."),
            message(Role::User, "Hi <|im_end|>"),
        ];
        assert_eq!(
            show(&template(CHATML), &messages),
            "<|im_start|>system\nBe brief.<|im_end|>\n\
             <|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"
        );
        let parts = template(CHATML).render(&messages).unwrap();
        assert_eq!(parts[1], Part::Content(0));
        assert_eq!(parts[3], Part::Content(1));
    }

    #[test]
    fn a_content_with_the_marker_is_only_a_content() {
        let messages = [message(Role::User, &format!("{MARK}7{MARK}"))];
        let parts = template(CHATML).render(&messages).unwrap();
        assert_eq!(parts.len(), 3);
    }

    #[test]
    fn the_bytes_of_a_shape_are_those_of_the_prompt() {
        let template = template(
            "{{ bos_token }}{% for m in messages %}{% if m.content %}[{{ m.role.upper() }}] \
             {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}{{ messages[0].content }}",
        );
        let messages = [
            message(Role::System, "\u{20ac}uro"),
            message(Role::User, ""),
            message(Role::Assistant, "x"),
            message(Role::User, ""),
        ];
        let bytes = |messages: &[Message]| template.bytes(&PromptShape::of(messages).unwrap());
        let text = show(&template, &messages);
        assert_eq!(
            text,
            "<s>[SYSTEM] \u{20ac}uro</s>[ASSISTANT] x</s>\u{20ac}uro"
        );
        assert_eq!(bytes(&messages), Ok(u64::try_from(text.len()).unwrap()));
        // An answer that is begun is the model's own words, and goes on.
        let (begun, _) = messages.split_at(3);
        let text = show(&template, begun);
        assert_eq!(text, "<s>[SYSTEM] \u{20ac}uro</s>\u{20ac}urox");
        assert_eq!(bytes(begun), Ok(u64::try_from(text.len()).unwrap()));
    }

    #[test]
    fn what_a_template_refuses_is_an_error_in_its_words() {
        let template = template("{{ raise_exception('roles must alternate') }}");
        assert_eq!(
            template.render(&[message(Role::User, "hi")]),
            Err(EngineError::Template("roles must alternate".to_owned()))
        );
        assert_eq!(template.render(&[]), Err(EngineError::NoMessages));
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let template = template(
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        );
        assert!(template.render(&[message(Role::User, "hi")]).is_err());
        let broken = Template::new("{% for".to_owned(), String::new(), String::new());
        assert!(matches!(broken, Err(EngineError::Template(_))));
    }

    #[test]
    fn a_template_that_takes_a_content_apart_is_refused() {
        for slice in ["1:", ":-1", "0"] {
            let template = template(&format!("{{{{ messages[0].content[{slice}] }}}}"));
            let result = template.render(&[message(Role::User, "hi")]);
            assert!(result.is_err(), "[{slice}] gave {result:?}");
        }
    }
}
