//! A sentence of the documents has one idea, and 25 words at most.

use std::fs;

use super::{refuse, root};

const WORDS_MAX: usize = 25;

/// The documents that are held to it.
const DOCUMENTS: [&str; 11] = [
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "docs/ARCHITECTURE.md",
    "docs/BENCHMARKS.md",
    "docs/DURABILITY.md",
    "docs/GUIDE.md",
    "docs/METRICS.md",
    "docs/OPERATE.md",
    "docs/PRIVACY.md",
    "docs/STYLE.md",
];

/// The paragraphs of a document and the points of its lists, each with its first line. Tables,
/// headings and code are left out.
fn paragraphs(markdown: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut is_code, mut goes_on) = (false, false);
    for (at, line) in markdown.lines().map(str::trim).enumerate() {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        if is_fence
            || is_code
            || line.is_empty()
            || line.starts_with(['#', '|', '<'])
            || line.starts_with("![")
        {
            goes_on = false;
            continue;
        }
        let point = line.strip_prefix("- ").or_else(|| {
            let (number, point) = line.split_once(". ")?;
            number.chars().all(|character| character.is_ascii_digit()).then_some(point)
        });
        match found.last_mut() {
            Some((_, text)) if goes_on && point.is_none() => *text += &format!(" {line}"),
            _ => found.push((at + 1, point.unwrap_or(line).to_owned())),
        }
        goes_on = true;
    }
    found
}

/// A paragraph in which what is code, or the target of a link, is one word without an end.
fn spoken(paragraph: &str) -> String {
    let mut said = String::new();
    for (at, piece) in paragraph.split('`').enumerate() {
        said += if at % 2 == 0 { piece } else { "code" };
    }
    let mut links = said.split("](");
    let mut spoken = links.next().unwrap_or_default().to_owned();
    for link in links {
        spoken += link.split_once(')').map_or(link, |(_, behind)| behind);
    }
    spoken
}

/// How many words each sentence has, with its first ones.
fn sentences(paragraph: &str) -> Vec<(usize, String)> {
    let spoken = spoken(paragraph);
    let mut found = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    for word in spoken.split_whitespace() {
        if word.chars().any(char::is_alphanumeric) {
            words.push(word);
        }
        let bare = word.trim_end_matches([')', '*', '"', '_']);
        if bare.ends_with(['.', '!', '?']) && !words.is_empty() {
            found.push((words.len(), words[..words.len().min(6)].join(" ")));
            words.clear();
        }
    }
    if !words.is_empty() {
        found.push((words.len(), words[..words.len().min(6)].join(" ")));
    }
    found
}

#[test]
fn a_sentence_has_25_words_at_most() {
    let fits = ["word"; WORDS_MAX].join(" ");
    let made_up = format!(
        "# {fits} x\n\n{fits}.\n{fits} `a b. c` x.\n\n| {fits} x |\n```\n{fits} x\n```\n- {fits}\n- {fits}\n  x\n"
    );
    let counts = |text: &str| -> Vec<_> {
        paragraphs(text)
            .iter()
            .flat_map(|(at, text)| sentences(text).into_iter().map(|(words, _)| (*at, words)))
            .collect()
    };
    assert_eq!(counts(&made_up), [(3, 25), (3, 27), (10, 25), (11, 26)]);
    assert_eq!(counts("One, [two](three four). Five (1.5 six.) `7.`\n"), [(1, 2), (1, 3), (1, 1)]);

    let mut complaints = Vec::new();
    for file in DOCUMENTS {
        let text = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for (at, paragraph) in paragraphs(&text) {
            let long = sentences(&paragraph).into_iter().filter(|(words, _)| *words > WORDS_MAX);
            complaints.extend(long.map(|(words, begins)| format!("{file}:{at}: {words} words: {begins} ..")));
        }
    }
    refuse(&complaints, "a sentence has one idea, and 25 words at most:");
}
