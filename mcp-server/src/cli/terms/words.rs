//! Words on the command line that stand for a term.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use tirami_agent_runtime::FailureCode;
use tirami_agent_runtime::ops::ModelOutput;
use tirami_manifest::mandate::{Action, Pot, PotRule, QuietHours};
use tirami_manifest::{Amount, ModelId, NodeId, Timestamp};

use crate::cli::exit::Problem;
use crate::cli::local_time;

/// A term that may be lifted.
#[derive(Clone, Debug)]
pub(super) enum Lift<T> {
    To(T),
    Off,
}

impl<T> Lift<T> {
    /// What it is set to; nothing when it is lifted.
    pub(super) const fn as_ref(&self) -> Option<&T> {
        match self {
            Self::To(term) => Some(term),
            Self::Off => None,
        }
    }
}

impl<T: Word> FromStr for Lift<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            Ok(Self::Off)
        } else {
            T::read(text).map(Self::To)
        }
    }
}

/// What a word can stand for.
pub(super) trait Word: Sized {
    fn read(text: &str) -> Result<Self, String>;
}

fn parsed<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

impl Word for Amount {
    fn read(text: &str) -> Result<Self, String> {
        parsed(text)
    }
}

impl Word for u32 {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("'{text}' is not a whole number"))
    }
}

impl Word for NodeId {
    fn read(text: &str) -> Result<Self, String> {
        let hint = "'tirami-agent peers' shows the ids of nodes";
        text.parse()
            .map_err(|error| format!("'{text}' is not a node: {error}; {hint}"))
    }
}

impl Word for QuietHours {
    fn read(text: &str) -> Result<Self, String> {
        parsed(text)
    }
}

impl Word for Action {
    fn read(text: &str) -> Result<Self, String> {
        action(text)
    }
}

/// An action by its word.
pub(in crate::cli) fn action(text: &str) -> Result<Action, String> {
    let mut all = Action::ALL.into_iter().map(|(action, _)| action);
    all.find(|action| action.name() == text).ok_or_else(|| {
        let names = Action::ALL.map(|(action, _)| action.name());
        format!(
            "'{text}' is not an action; the actions are {}",
            names.join(", ")
        )
    })
}

/// A pot by its word.
pub(in crate::cli) fn pot(text: &str) -> Result<Pot, String> {
    let found = Pot::ALL.into_iter().find(|pot| pot.name() == text);
    found.ok_or_else(|| {
        let names = Pot::ALL.map(Pot::name);
        format!("'{text}' is not a pot; the pots are {}", names.join(", "))
    })
}

/// When something ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End(pub(super) Timestamp);

impl Word for End {
    fn read(text: &str) -> Result<Self, String> {
        local_time::end(text).map(Self)
    }
}

/// Pots in order.
#[derive(Clone, Debug)]
pub(super) struct Pots(pub(super) Vec<Pot>);

impl Word for Pots {
    fn read(text: &str) -> Result<Self, String> {
        let pots: Vec<Pot> = text.split(',').map(pot).collect::<Result<_, _>>()?;
        Ok(Self(pots))
    }
}

/// A model by its id, or by the name under which it is sold.
#[derive(Clone, Debug)]
pub(in crate::cli) enum Model {
    Id(ModelId),
    Name(String),
}

impl Model {
    pub(in crate::cli) fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(id) => Self::Id(id),
            Err(_) => Self::Name(text.to_owned()),
        }
    }

    pub(in crate::cli) const fn is_name(&self) -> bool {
        matches!(self, Self::Name(_))
    }
}

impl Word for Model {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a model has a name or an id".to_owned());
        }
        Ok(Self::parse(text))
    }
}

/// A rule for pots, whose model may be a name.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    action: Option<Action>,
    payee: Option<NodeId>,
    model: Option<Model>,
    pots: Vec<Pot>,
}

impl Word for Rule {
    fn read(text: &str) -> Result<Self, String> {
        let shape = || {
            format!(
                "'{text}' is not a rule; write what it is for, then which pots pay, as in \
                 chat:restricted or chat:model=NAME:payee=NODE:earned,seed"
            )
        };
        let (fits, pots) = text.rsplit_once(':').ok_or_else(shape)?;
        let mut rule = Self {
            action: None,
            payee: None,
            model: None,
            pots: Pots::read(pots)?.0,
        };
        for part in fits.split(':') {
            match part.split_once('=') {
                Some(("model", model)) => rule.model = Some(Model::read(model)?),
                Some(("payee", payee)) => rule.payee = Some(NodeId::read(payee)?),
                Some(_) => return Err(shape()),
                None if part == "any" => {}
                None => rule.action = Some(action(part)?),
            }
        }
        Ok(rule)
    }
}

impl Rule {
    pub(super) fn names_a_model(&self) -> bool {
        self.model.as_ref().is_some_and(Model::is_name)
    }

    pub(super) fn resolve(&self, names: &ModelNames) -> Result<PotRule, Problem> {
        let model = self.model.as_ref().map(|model| names.id(model));
        Ok(PotRule {
            action: self.action,
            payee: self.payee,
            model: model.transpose()?,
            pots: self.pots.clone(),
        })
    }
}

/// Ids of models by the names under which they are offered.
#[derive(Debug, Default)]
pub(in crate::cli) struct ModelNames(BTreeMap<String, Vec<ModelId>>);

impl ModelNames {
    pub(in crate::cli) fn new(models: Vec<ModelOutput>) -> Self {
        let mut names: BTreeMap<String, Vec<ModelId>> = BTreeMap::new();
        for model in models {
            let ids = names.entry(model.name).or_default();
            if !ids.contains(&model.model_id) {
                ids.push(model.model_id);
            }
        }
        Self(names)
    }

    /// The id of a model. A name that stands for two is refused: a peer may call its model what it
    /// likes.
    pub(in crate::cli) fn id(&self, model: &Model) -> Result<ModelId, Problem> {
        let name = match model {
            Model::Id(id) => return Ok(*id),
            Model::Name(name) => name,
        };
        match self.0.get(name).map(Vec::as_slice) {
            Some([id]) => Ok(*id),
            Some(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                let text = format!("'{name}' is the name of {} models", ids.len());
                Err(Problem::usage(text).hint(format!("name one by its id: {}", ids.join(", "))))
            }
            None => {
                let text = format!("no model here or at a peer is named '{name}'");
                Err(Problem::new(FailureCode::NotFound, text)
                    .hint("'tirami-agent models' lists them; an id works without the model"))
            }
        }
    }

    pub(super) fn ids(&self, said: &[Lift<Model>]) -> Result<Vec<Lift<ModelId>>, Problem> {
        said.iter()
            .map(|said| {
                Ok(match said {
                    Lift::To(model) => Lift::To(self.id(model)?),
                    Lift::Off => Lift::Off,
                })
            })
            .collect()
    }
}
