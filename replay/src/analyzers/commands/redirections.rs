//! Where a shell's redirections lead: which descriptors of a command are a connection that the shell itself has made
//! (`/dev/tcp/HOST/PORT` in bash and ksh).

use std::collections::BTreeMap;

/// One of a command's redirections.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Redirection {
    /// The descriptor as it was written before the operator: a number, `{name}`, or nothing.
    pub number: String,
    pub operator: String,
    pub target: String,
}

impl Redirection {
    /// The descriptors that it sets, by number or `$name`.
    fn descriptors(&self) -> Vec<String> {
        // `>&` is for both where a file stands behind it.
        let both = self.operator.starts_with('&') || self.operator == ">&" && !is_descriptor(&self.target);
        match self.number.as_str() {
            "" if both => vec!["1".to_owned(), "2".to_owned()],
            "" if self.operator.starts_with('<') => vec!["0".to_owned()],
            "" => vec!["1".to_owned()],
            named if named.starts_with('{') => vec![variable(named)],
            number => vec![number.to_owned()],
        }
    }
}

/// A number, a variable that may hold one, or `-`.
fn is_descriptor(target: &str) -> bool {
    target.starts_with('$') || target.trim_end_matches('-').bytes().all(|byte| byte.is_ascii_digit())
}

/// `$name`, for `{name}`, `${name}` and `$name`.
fn variable(text: &str) -> String {
    format!("${}", text.trim_start_matches(['$', '{']).trim_end_matches('}'))
}

/// The descriptors of a shell, as far as they lead into the network.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(BTreeMap<String, bool>);

impl Streams {
    /// Which standard streams of a command do; of `exec` alone (`keeps`), the shell's from now on.
    pub fn of(&mut self, redirections: &[Redirection], keeps: bool) -> [bool; 3] {
        let mut streams = self.clone();
        redirections.iter().for_each(|redirection| streams.take(redirection));
        let standard = ["0", "1", "2"].map(|number| streams.leads(number));
        if keeps {
            *self = streams;
        }
        standard
    }

    fn take(&mut self, redirection: &Redirection) {
        let target = redirection.target.as_str();
        let connects = target.starts_with("/dev/tcp/") || target.starts_with("/dev/udp/");
        let leads = connects || redirection.operator.ends_with('&') && self.leads(target);
        for descriptor in redirection.descriptors() {
            self.0.insert(descriptor, leads);
        }
    }

    fn leads(&self, descriptor: &str) -> bool {
        let descriptor = descriptor.trim_end_matches('-');
        let name = if descriptor.starts_with('$') { variable(descriptor) } else { descriptor.to_owned() };
        self.0.get(&name).copied().unwrap_or(false)
    }
}
