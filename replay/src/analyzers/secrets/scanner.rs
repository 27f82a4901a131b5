//! Finds what looks like a secret in a text, by the rules of `rules.json`.
//!
//! One pass looks for the keywords of all rules at once; an expression runs only where one of its keywords stands, and begins
//! there. So a text is read once whatever the number of rules, and an expression sees but a few bytes of it.

use super::keywords::Keywords;
use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{LazyLock, OnceLock};

/// Most secrets of one text that are told.
const MAX_HITS: usize = 1000;

/// How far before a match `unless` looks, in bytes.
const BEFORE: usize = 24;

/// How many bytes an expression reads if its rule does not say.
const LONGEST: usize = 1024;

#[derive(Deserialize)]
struct Rules {
    /// What a secret in documentation has in it, in small letters.
    placeholders: Vec<String>,
    rules: Vec<Rule>,
}

/// A rule; what its fields mean stands in `rules.json`.
#[derive(Deserialize)]
pub(crate) struct Rule {
    pub id: String,
    pub finds: String,
    pub severity: String,
    keywords: Vec<String>,
    regex: String,
    entropy: Option<f64>,
    #[serde(default)]
    back: usize,
    longest: Option<usize>,
    #[serde(default)]
    inside: bool,
    #[serde(default)]
    mixed: bool,
    unless: Option<String>,
    #[serde(skip)]
    compiled: OnceLock<Option<(Regex, Option<Regex>)>>,
}

/// A secret in a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hit {
    /// Position of the rule.
    pub rule: usize,
    /// The secret itself.
    pub range: Range<usize>,
}

pub(crate) struct Scanner {
    rules: Vec<Rule>,
    placeholders: Vec<String>,
    keywords: Keywords,
}

/// The scanner, made when it is first needed.
pub(crate) static SCANNER: LazyLock<Scanner> = LazyLock::new(Scanner::new);

impl Scanner {
    fn new() -> Self {
        let none = || Rules { placeholders: Vec::new(), rules: Vec::new() };
        let Rules { placeholders, rules } = serde_json::from_str(include_str!("rules.json")).unwrap_or_else(|_| none());
        let words = rules.iter().enumerate();
        let words = words.flat_map(|(index, rule)| rule.keywords.iter().map(move |word| (word.as_str(), index)));
        Scanner { keywords: Keywords::new(words), rules, placeholders }
    }

    pub fn rule(&self, hit: &Hit) -> Option<&Rule> {
        self.rules.get(hit.rule)
    }

    /// The secrets of a text, in its order; of those that overlap, the one whose rule stands first.
    pub fn scan(&self, text: &str) -> Vec<Hit> {
        let mut hits: Vec<Hit> = Vec::new();
        // What a rule has read is not read again: a text made of nothing but keywords takes no longer than another.
        let mut read = vec![0; self.rules.len()];
        self.keywords.find(text.as_bytes(), |at, index| {
            let (Some(rule), Some(read)) = (self.rules.get(index), read.get_mut(index)) else { return };
            let Some(start) = at.checked_sub(rule.back).filter(|start| start >= read) else { return };
            if let Some(range) = rule.at(text.as_bytes(), start) {
                *read = range.end;
                if hits.len() < MAX_HITS && !self.is_placeholder(text.as_bytes(), &range) {
                    hits.push(Hit { rule: index, range });
                }
            }
        });
        distinct(hits)
    }

    fn is_placeholder(&self, text: &[u8], secret: &Range<usize>) -> bool {
        let secret = text.get(secret.clone()).map(String::from_utf8_lossy).unwrap_or_default().to_ascii_lowercase();
        self.placeholders.iter().any(|placeholder| secret.contains(placeholder.as_str()))
    }
}

/// Leaves out what overlaps with a hit of an earlier rule.
fn distinct(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.sort_by_key(|hit| hit.rule);
    let mut taken: BTreeSet<(usize, usize)> = BTreeSet::new();
    hits.retain(|hit| {
        let before = taken.range(..(hit.range.end, 0)).next_back();
        let free = before.is_none_or(|(_, end)| *end <= hit.range.start);
        free && taken.insert((hit.range.start, hit.range.end))
    });
    hits.sort_by_key(|hit| hit.range.start);
    hits
}

impl Rule {
    /// The secret that begins here, if one does.
    fn at(&self, text: &[u8], start: usize) -> Option<Range<usize>> {
        if !self.inside && !begins_word(text.get(..start)?) {
            return None;
        }
        let end = text.len().min(start + self.longest.unwrap_or(LONGEST));
        let (regex, unless) = self.compiled()?;
        let slice = text.get(start..end)?;
        let found = regex.captures(slice)?;
        let secret = found.get(1).or(found.get(0))?;
        let bytes = secret.as_bytes();
        if self.entropy.is_some_and(|least| entropy(bytes) < least) || self.mixed && !is_mixed(bytes) {
            return None;
        }
        let around = text.get(start.saturating_sub(BEFORE)..start + found.get(0)?.end())?;
        if unless.as_ref().is_some_and(|unless| unless.is_match(around)) {
            return None;
        }
        Some(start + secret.start()..start + secret.end())
    }

    fn compiled(&self) -> Option<&(Regex, Option<Regex>)> {
        let compile = |regex: &str| RegexBuilder::new(regex).unicode(false).build().ok();
        let both = || {
            let unless = self.unless.as_deref().map(compile);
            Some((compile(&format!("^(?:{})", self.regex))?, unless.flatten()))
        };
        self.compiled.get_or_init(both).as_ref()
    }
}

/// Whether a word may begin behind this text. `\n` in a text that is JSON in JSON is a line break.
fn begins_word(before: &[u8]) -> bool {
    let escape = matches!(before, [.., b'\\', b'n' | b'r' | b't']);
    escape || !before.last().is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Shannon's entropy, in bits a byte.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let len = bytes.len() as f64;
    let bits = |count: &u32| {
        let share = f64::from(*count) / len;
        -share * share.log2()
    };
    counts.iter().filter(|count| **count > 0).map(bits).sum()
}

/// Whether letters and digits are mixed as they are in no word, number or name of a program's text; a UUID names things, and is no
/// secret.
fn is_mixed(bytes: &[u8]) -> bool {
    let is_uuid = bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let (upper, lower) = (bytes.iter().any(u8::is_ascii_uppercase), bytes.iter().any(u8::is_ascii_lowercase));
    let is_name = bytes.iter().any(|byte| matches!(byte, b'_' | b'.')) && !(upper && lower);
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    !is_uuid && !is_name && digits >= 3 && (upper || lower)
}

/// Names a secret without giving it away: how it starts and ends, and the start of its SHA-256.
pub(crate) fn mask(secret: &str) -> String {
    let count = secret.chars().count();
    // What is short would be given away.
    let (first, last) = if count >= 16 { (4, 2) } else { (1, 0) };
    let start: String = secret.chars().take(first).collect();
    let end: String = secret.chars().skip(count - last).collect();
    let hash: String = Sha256::digest(secret.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{start}…{end} ({count} characters, sha256 {hash}…)")
}

/// A text in which each secret is masked.
pub(crate) fn masked(text: &str) -> String {
    let (mut out, mut at) = (String::new(), 0);
    for hit in SCANNER.scan(text) {
        let (Some(before), Some(secret)) = (text.get(at..hit.range.start), text.get(hit.range.clone())) else {
            continue;
        };
        out.push_str(before);
        out.push_str(&mask(secret));
        at = hit.range.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters and digits that look random: no secret stands in this file.
    fn noise(len: usize, of: &str) -> String {
        let of: Vec<char> = of.chars().collect();
        let mut state = 7_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            of[(state >> 33) as usize % of.len()]
        };
        (0..len).map(next).collect()
    }

    const ANY: &str = "abcdefghijkmnopqrstuvwxyzABCDEFGHIJKLMNPQRSTUVWXYZ23456789";
    const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const HEX: &str = "0123456789abcdef";
    const DIGITS: &str = "0123456789";

    fn rules_of(text: &str) -> Vec<&'static str> {
        SCANNER.scan(text).iter().map(|hit| SCANNER.rules[hit.rule].id.as_str()).collect()
    }

    /// A secret of each shape, by the rule that has to find it.
    fn secrets() -> Vec<(&'static str, String)> {
        let any = |len| noise(len, ANY);
        let hex = |len| noise(len, HEX);
        let digits = |len| noise(len, DIGITS);
        vec![
            ("aws-access-token", format!("AKIA{}", noise(16, UPPER))),
            ("gcp-api-key", format!("AIza{}", any(35))),
            ("azure-ad-client-secret", format!("{}8Q~{}", any(3), any(32))),
            ("digitalocean-pat", format!("dop_v1_{}", hex(64))),
            ("databricks-api-token", format!("dapi{}", hex(32))),
            ("hashicorp-tf-api-token", format!("{}.atlasv1.{}", any(14), any(64))),
            ("vault-service-token", format!("hvs.{}", any(95))),
            ("anthropic-api-key", format!("sk-ant-api03-{}AA", any(93))),
            ("anthropic-admin-api-key", format!("sk-ant-admin01-{}AA", any(93))),
            ("openai-api-key", format!("sk-proj-{}", any(120))),
            ("openai-api-key", format!("sk-{}T3BlbkFJ{}", any(20), any(20))),
            ("openrouter-api-key", format!("sk-or-v1-{}", hex(64))),
            ("huggingface-access-token", format!("hf_{}", any(34))),
            ("github-pat", format!("ghp_{}", any(36))),
            ("github-fine-grained-pat", format!("github_pat_{}", any(82))),
            ("github-app-token", format!("ghs_{}", any(36))),
            ("gitlab-pat", format!("glpat-{}", any(20))),
            ("npm-access-token", format!("npm_{}", any(36))),
            ("pypi-upload-token", format!("pypi-AgEIcHlwaS5vcmc{}", any(80))),
            ("rubygems-api-token", format!("rubygems_{}", hex(48))),
            ("slack-bot-token", format!("xoxb-{}-{}-{}", digits(12), digits(12), any(24))),
            ("slack-user-token", format!("xoxp-{}-{}-{}-{}", digits(12), digits(12), digits(12), hex(32))),
            ("slack-webhook-url", format!("https://hooks.slack.com/services/{}", any(44))),
            ("sendgrid-api-token", format!("SG.{}.{}", any(22), any(43))),
            ("twilio-api-key", format!("SK{}", hex(32))),
            ("stripe-access-token", format!("sk_live_{}", any(24))),
            ("shopify-access-token", format!("shpat_{}", hex(32))),
            ("telegram-bot-api-token", format!("https://api.telegram.org/bot{}:A{}/getMe", digits(9), any(34))),
            ("jwt", format!("eyJ{}.eyJ{}.{}", any(30), any(60), any(43))),
            ("private-key", format!("-----BEGIN OPENSSH {} KEY-----\n{}\n{}\n-----END", "PRIVATE", any(70), any(40))),
            ("private-key", format!("-----BEGIN RSA {} KEY-----\\n{}\\n{}", "PRIVATE", any(64), any(64))),
            ("curl-auth-header", format!("curl -H 'Authorization: Bearer {}'", any(40))),
            ("password-in-url", format!("postgres://app:{}@db.internal:5432/x", any(12))),
            ("aws-secret-access-key", format!("aws_secret_access_key = {}", any(40))),
            ("generic-api-key", format!("MY_SERVICE_API_KEY={}", any(32))),
            ("generic-api-key", format!(r#"{{"clientSecret": "{}"}}"#, any(32))),
        ]
    }

    #[test]
    fn each_rule_finds_what_it_is_for_wherever_it_stands() {
        for (rule, secret) in secrets() {
            let escaped = secret.replace('\n', "\\n").replace('"', "\\\"");
            for text in
                [secret.clone(), format!("x='{secret}'\n"), format!("KEY:\n{secret}\n"), format!("a\\n{escaped}\\nb")]
            {
                assert_eq!(rules_of(&text), [rule], "{text}");
            }
        }
    }

    #[test]
    fn what_only_looks_so_is_no_secret() {
        let any = |len| noise(len, ANY);
        let texts = [
            format!("{}{}", "AKIAIOSFODNN7", "EXAMPLE"),
            format!("AKIA{}", "A".repeat(16)),
            format!("xAKIA{}", noise(16, UPPER)),
            format!("AKIA{}0", noise(16, UPPER)),
            format!("ghp_{}", "x".repeat(36)),
            format!("ghp_{}", any(20)),
            "sk-ant-api03-YOUR_KEY".to_owned(),
            "ANTHROPIC_API_KEY=sk-ant-...".to_owned(),
            "api_key = os.environ['SERVICE_API_KEY_2_AND_A_LONG_NAME']".to_owned(),
            "const token = getTokenFromSession1234567(user)".to_owned(),
            "password: ${DATABASE_PASSWORD_1_FROM_THE_ENVIRONMENT}".to_owned(),
            "the secret of this key is that a token has access to the password".to_owned(),
            "\"max_tokens\": 64000, \"tokens\": 12345678901234567890".to_owned(),
            format!("cache_key: {}", any(32)),
            format!("session_key=\"{}\"", "0e3b7c52-9a41-4f0e-8d6b-2c1f5a7e9b30"),
            format!("sha256 integrity key sha512-{}", any(60)),
            "postgres://user:password@localhost/x".to_owned(),
            "https://example.com:8080/a@b".to_owned(),
            "-----BEGIN PUBLIC KEY-----\nabcd\n-----END PUBLIC KEY-----".to_owned(),
            format!("-----BEGIN {} KEY-----\n...\n-----END {0} KEY-----", "PRIVATE"),
            "monkey-business".to_owned(),
            "customer_key = __correlated_sq_1.o_custkey".to_owned(),
            "NL80211_KEY_MAX: nl80211_key_attributes;".to_owned(),
        ];
        for text in texts {
            assert_eq!(rules_of(&text), [""; 0], "{text}");
        }
    }

    #[test]
    fn the_rules_are_whole() {
        assert!(SCANNER.rules.len() > 80);
        let mut ids = BTreeSet::new();
        for rule in &SCANNER.rules {
            assert!(rule.compiled().is_some(), "{}", rule.id);
            assert_eq!(rule.unless.is_some(), rule.compiled().unwrap().1.is_some(), "{}", rule.id);
            assert!(["low", "medium", "high"].contains(&rule.severity.as_str()), "{}", rule.id);
            assert!(ids.insert(&rule.id), "{} twice", rule.id);
        }
    }

    #[test]
    fn every_secret_of_a_text_is_found_once() {
        let all: Vec<_> = secrets();
        let text: String = all.iter().map(|(_, secret)| format!("{secret}\n\n")).collect();
        assert_eq!(rules_of(&text), all.iter().map(|(rule, _)| *rule).collect::<Vec<_>>());
    }

    #[test]
    fn a_mask_does_not_give_the_secret_away() {
        let secret = format!("ghp_{}", noise(36, ANY));
        let text = masked(&format!("curl -u me:{secret} x"));
        assert!(text.starts_with("curl -u me:ghp_…") && text.ends_with("…) x"), "{text}");
        assert!(!text.contains(&secret[4..12]), "{text}");
        assert!(mask("hunter2").starts_with("h… (7 characters, sha256 f52fbd32"), "{}", mask("hunter2"));
    }

    #[test]
    fn a_text_of_nothing_but_keywords_takes_no_longer() {
        let text = "authorization: key=token=secret://-----BEGIN RSA PRIVATE KEY-----".repeat(20_000);
        assert_eq!(rules_of(&text), [""; 0]);
    }
}
