//! Go's crypto/tls: three functions by name, from the table that Go's runtime needs. And copies of the package that say hello as
//! browsers do (utls, of which there are several): they have these, and two more for connections of a type of their own.

use super::cookie::{Library, cookie, count, op};
use super::image::{Image, Machine, Piece};
use super::pclntab::{self, Found, Range, Table};
use super::{Site, Stack, arm64, entry, gocode, moduledata};
use iced_x86::{Decoder, DecoderOptions};

const METHOD: &str = "Go's function table";
const PACKAGE: &str = "crypto/tls.";
/// How the paths of the copies end.
const COPY: &str = "utls.";
const READ: &str = "crypto/tls.(*Conn).Read";
/// Functions: operations at the entry and at each return.
const METHODS: [(&str, u64, Option<u64>); 5] = [
    ("(*Conn).Read", op::GO_READ, Some(op::GO_READ_RETURN)),
    ("(*Conn).Write", op::GO_WRITE, Some(op::GO_WRITE_RETURN)),
    ("(*Conn).Close", op::GO_CLOSE, None),
    ("(*UConn).Read", op::UTLS_READ, Some(op::GO_READ_RETURN)),
    ("(*UConn).Write", op::UTLS_WRITE, Some(op::GO_WRITE_RETURN)),
];
/// The first that copies have in addition. Where the package has none of its own, the compiler makes one that goes on to the
/// function of the same name.
const ADDED: usize = 3;
/// A function is not longer than this; `Write` has two kilobytes.
const LONGEST: u64 = 1 << 16;

/// The stack, if the file is a Go program that has crypto/tls; `anchors` are where the table's first bytes were found.
pub(super) fn find(image: &Image<'_>, anchors: &[u64]) -> Option<Stack> {
    pclntab::places(image, anchors).into_iter().find_map(|place| match Table::read(image, place)? {
        Found::Table(table) => stack(image, &table),
        Found::Old(version) => old(image, version),
    })
}

fn stack(image: &Image<'_>, table: &Table) -> Option<Stack> {
    let mut stack = Stack::new(Library::Go, METHOD);
    let names = names(image, table);
    let wanted: Vec<&str> = names.iter().map(|name| &*name.whole).collect();
    let Some(functions) = table.functions(image, &wanted) else {
        stack.why.push(format!("the function table at {:#x} is damaged", table.address));
        return Some(stack);
    };
    if functions.is_empty() {
        return None;
    }
    let located = moduledata::texts(image, table)
        .find_map(|(text, how)| Some((how, locate_all(image, text, &names, &functions)?)));
    let Some((how, functions)) = located else {
        stack
            .why
            .push(format!("functions at {:#x} from the start of the code, which was not found", functions[0].1.start));
        return Some(stack);
    };
    stack.why.push(format!("function table at {:#x}; the code's start is known from {how}", table.address));
    let wrapped = |outer: &Function| {
        let mut others = functions.iter().filter(|other| names[other.name].method < ADDED);
        others.any(|other| outer.goes_on_to(image.machine, other))
    };
    for (index, name) in names.iter().enumerate() {
        let found: Vec<&Function> = functions.iter().filter(|function| function.name == index).collect();
        match found[..] {
            [only] if name.method < ADDED => only.add(image, &mut stack, name),
            [only] if !wrapped(only) => {
                only.add(image, &mut stack, name);
            }
            [] if name.method >= ADDED => {}
            [_] => stack.why.push(format!("{}: made of another function that is probed", name.whole)),
            _ => stack.why.push(format!("{}: {} functions have this name", name.whole, found.len())),
        }
    }
    Some(stack)
}

/// A name that is looked for.
struct Name {
    whole: String,
    /// Index of what it names.
    method: usize,
}

/// Those of crypto/tls, and those of its copies that the program has.
fn names(image: &Image<'_>, table: &Table) -> Vec<Name> {
    let of = |package: &str, (method, (name, ..)): (usize, &(&str, u64, Option<u64>))| Name {
        whole: format!("{package}{name}"),
        method,
    };
    let mut names: Vec<Name> = METHODS.iter().enumerate().take(ADDED).map(|method| of(PACKAGE, method)).collect();
    let ends: Vec<String> = METHODS.iter().map(|(name, ..)| format!("{COPY}{name}")).collect();
    let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
    for (method, whole) in table.names_ending(image, &ends) {
        let path = whole.len() - ends[method].len();
        if (path == 0 || whole[..path].ends_with('/')) && names.iter().all(|name| name.whole != whole) {
            names.push(Name { whole, method });
        }
    }
    names
}

/// The functions, if they begin as Go's functions do, or the start of the code is another. Of those that only go on to others
/// some begin otherwise.
fn locate_all(image: &Image<'_>, text: u64, names: &[Name], found: &[(usize, Range)]) -> Option<Vec<Function>> {
    let located = found.iter().map(|found| (names[found.0].method < ADDED, locate(image, text, *found)));
    located.filter(|(needed, function)| *needed || function.is_some()).map(|(_, function)| function).collect()
}

/// A table that is too old matters only where there is something to see.
fn old(image: &Image<'_>, version: &str) -> Option<Stack> {
    let names = super::search::within(image, &image.ranges(), &[READ.as_bytes()]).ok()?;
    (!names.first()?.is_empty()).then_some(())?;
    let mut stack = Stack::new(Library::Go, METHOD);
    stack.why.push(format!("Go {version} is not supported: it passes arguments in other ways than Go 1.18 and later"));
    Some(stack)
}

/// A function with its code.
struct Function {
    /// Index of the name.
    name: usize,
    start: u64,
    code: Vec<u8>,
    /// Where the entry is probed.
    entry: u64,
}

/// A function, if it begins as Go's functions do where it ought to be.
fn locate(image: &Image<'_>, text: u64, (name, range): (usize, Range)) -> Option<Function> {
    let start = text.checked_add(range.start)?;
    let size = range.end.checked_sub(range.start).filter(|size| *size <= LONGEST)?;
    let code = image.at(start, size).filter(|code| code.len() as u64 == size)?;
    let entry = match image.machine {
        Machine::X86_64 => gocode::after_check_x86(&code, start)?,
        Machine::Aarch64 => gocode::after_check_arm64(&code, start)?,
    };
    Some(Function { name, start, code, entry })
}

impl Function {
    fn add(&self, image: &Image<'_>, stack: &mut Stack, name: &Name) {
        let (_, op, at_return) = METHODS[name.method];
        let name = &name.whole;
        let returns = match image.machine {
            Machine::X86_64 => gocode::returns_x86(&self.code, self.start),
            Machine::Aarch64 => gocode::returns_arm64(&self.code, self.start),
        };
        let Some(entry) = image.offset(self.entry) else { return };
        let cost = entry::cost(image, self.entry);
        let site = |offset, op, name: String| Site {
            offset,
            cookie: cookie(Library::Go, op, count::RETURNED),
            name: name.into(),
        };
        let Some(return_op) = at_return else {
            stack.why.push(format!("{name} at {:#x}, probed at {:#x}: {cost}", self.start, self.entry));
            return stack.sites.push(site(entry, op, name.clone()));
        };
        // An entry whose return is never seen says nothing.
        if returns.is_empty() {
            return stack.why.push(format!("{name} at {:#x}: never returns", self.start));
        }
        let (start, entry_at, places) = (self.start, self.entry, returns.len());
        stack.why.push(format!("{name} at {start:#x}, probed at {entry_at:#x}: {cost}; returns in {places} places"));
        stack.sites.push(site(entry, op, name.clone()));
        let returns = returns.into_iter().filter_map(|at| image.offset(at));
        stack.sites.extend(returns.map(|offset| site(offset, return_op, format!("{name} returns"))));
    }

    /// Whether it calls the other, or jumps there.
    fn goes_on_to(&self, machine: Machine, other: &Function) -> bool {
        match machine {
            Machine::X86_64 => Decoder::with_ip(64, &self.code, self.start, DecoderOptions::NONE)
                .iter()
                .any(|step| step.near_branch_target() == other.start),
            Machine::Aarch64 => {
                let piece = Piece { address: self.start, bytes: self.code.clone() };
                arm64::calls(&piece).any(|(_, target)| target == other.start)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Binary, fake, resolve};
    use super::*;

    /// cmp rsp,[r14+0x10]; jbe +5; push rbp; nop; pop rbp; ret; int3
    const SMALL: &[u8] = &[0x49, 0x3b, 0x66, 0x10, 0x76, 0x05, 0x55, 0x90, 0x5d, 0xc3, 0xcc];

    /// How a made-up program says where its code starts.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Says {
        Header,
        Pointers,
        Relocations,
        Nothing,
    }

    const CODE: u64 = 0x40;
    const TABLE: u64 = 0x1000;
    const FUNCTIONS: u64 = 0x230;
    const MODULE: u64 = 0x3000;
    const RELOCATIONS: u64 = 0x4000;
    const DYNAMIC: u64 = 0x5000;

    const WRITE: &str = "crypto/tls.(*Conn).Write";
    const CLOSE: &str = "crypto/tls.(*Conn).Close";

    /// A program with functions of these names, 0x100 bytes each.
    fn program(magic: u32, says: Says, names: &[&str]) -> Vec<u8> {
        let mut content = vec![0; 0x6000];
        let mut put = |at: u64, bytes: &[u8]| content[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        let text = fake::BASE + CODE;
        put(TABLE, &magic.to_le_bytes());
        put(TABLE + 6, &[1, 8]);
        let header = if says == Says::Header { text } else { 0 };
        let words = [names.len() as u64, 0, header, 72, 0x200, 0x210, 0x220, FUNCTIONS];
        (1..).zip(words).for_each(|(index, word): (u64, _)| put(TABLE + index * 8, &word.to_le_bytes()));
        let mut name_at = 1;
        for (index, name) in (0..).zip(names) {
            let (start, about) = (index * 0x100, 0x100 + index * 0x20);
            put(CODE + start, SMALL);
            put(TABLE + 72 + name_at, name.as_bytes());
            let fields = |a: u64, b: u64| [(a as u32).to_le_bytes(), (b as u32).to_le_bytes()].concat();
            put(TABLE + FUNCTIONS + index * 8, &fields(start, about));
            put(TABLE + FUNCTIONS + about, &fields(start, name_at));
            name_at += name.len() as u64 + 2;
        }
        let end = names.len() as u64 * 0x100;
        put(TABLE + FUNCTIONS + names.len() as u64 * 8, &(end as u32).to_le_bytes());
        let pointers = [(0, fake::BASE + TABLE), (160, text), (168, text + end), (176, text)];
        for (index, (at, to)) in (0..).zip(pointers) {
            let relocation =
                [fake::BASE + MODULE + at, object::elf::R_X86_64_RELATIVE.into(), to].map(u64::to_le_bytes);
            match says {
                Says::Pointers => put(MODULE + at, &to.to_le_bytes()),
                Says::Relocations => put(RELOCATIONS + index * 24, &relocation.concat()),
                Says::Header | Says::Nothing => {}
            }
        }
        let entries = [object::elf::DT_RELA.into(), fake::BASE + RELOCATIONS, object::elf::DT_RELASZ.into(), 96];
        (0..).zip(entries).for_each(|(index, word): (u64, u64)| put(DYNAMIC + index * 8, &word.to_le_bytes()));
        content
    }

    fn resolved(content: &[u8]) -> Binary {
        let dynamic = (object::elf::PT_DYNAMIC, fake::BASE + DYNAMIC, 64);
        resolve(&fake::file(object::elf::EM_X86_64, content, &[dynamic])).unwrap()
    }

    fn offsets(binary: &Binary) -> Vec<(u64, u64)> {
        binary
            .sites()
            .map(|site| (site.offset - fake::OFFSET - CODE, super::super::cookie::op_of(site.cookie)))
            .collect()
    }

    const V1_18: u32 = 0xffff_fff0;
    const V1_20: u32 = 0xffff_fff1;

    #[test]
    fn functions_are_found_wherever_the_start_of_the_code_is_said() {
        let names = ["runtime.main", READ, "crypto/tls.(*Conn).Readable", WRITE, CLOSE];
        for (magic, says) in
            [(V1_18, Says::Header), (V1_20, Says::Header), (V1_20, Says::Pointers), (V1_20, Says::Relocations)]
        {
            let binary = resolved(&program(magic, says, &names));
            let expected = [
                (0x106, op::GO_READ),
                (0x109, op::GO_READ_RETURN),
                (0x306, op::GO_WRITE),
                (0x309, op::GO_WRITE_RETURN),
                (0x406, op::GO_CLOSE),
            ];
            assert_eq!(offsets(&binary), expected, "{says:?} {:?}", binary.stacks);
        }
    }

    #[test]
    fn without_the_start_of_the_code_there_are_no_sites() {
        let binary = resolved(&program(V1_20, Says::Nothing, &[READ, WRITE]));
        assert_eq!(offsets(&binary), []);
        assert!(binary.stacks[0].why[0].contains("start of the code, which was not found"), "{:?}", binary.stacks);
    }

    #[test]
    fn a_program_without_tls_has_no_stack() {
        assert_eq!(resolved(&program(V1_20, Says::Header, &["main.main", "net.(*conn).Read"])).stacks, []);
    }

    #[test]
    fn copies_of_the_package_are_seen_as_well() {
        let of = |name: &str| format!("example.org/of/utls.{name}");
        let [read, write] = ["(*Conn).Read", "(*UConn).Write"].map(of);
        let names = [READ, &read, &write, "example.org/of/nutls.(*Conn).Read", "utls.(*UConn).Read"];
        let expected = [
            (0x6, op::GO_READ),
            (0x9, op::GO_READ_RETURN),
            (0x106, op::GO_READ),
            (0x109, op::GO_READ_RETURN),
            (0x206, op::UTLS_WRITE),
            (0x209, op::GO_WRITE_RETURN),
            (0x406, op::UTLS_READ),
            (0x409, op::GO_READ_RETURN),
        ];
        let binary = resolved(&program(V1_20, Says::Header, &names));
        assert_eq!(offsets(&binary), expected, "{:?}", binary.stacks);
        assert!(binary.sites().any(|site| site.name == format!("{read} returns")), "{:?}", binary.stacks);
    }

    /// Where the copy has no such function, the compiler makes one that goes on to the other.
    #[test]
    fn what_goes_on_to_another_function_is_counted_there() {
        let names = ["example.org/utls.(*Conn).Read", "example.org/utls.(*UConn).Read"];
        let mut content = program(V1_20, Says::Header, &names);
        // cmp rsp,[r14+0x10]; jbe +6; call -0x10b; ret
        let code = [0x49, 0x3b, 0x66, 0x10, 0x76, 0x06, 0xe8, 0xf5, 0xfe, 0xff, 0xff, 0xc3];
        content[CODE as usize + 0x100..][..code.len()].copy_from_slice(&code);
        assert_eq!(offsets(&resolved(&content)), [(0x6, op::GO_READ), (0x9, op::GO_READ_RETURN)]);
        // A jump without a look at the stack.
        content[CODE as usize + 0x100..][..5].copy_from_slice(&[0xe9, 0xfb, 0xfe, 0xff, 0xff]);
        assert_eq!(offsets(&resolved(&content)), [(0x6, op::GO_READ), (0x9, op::GO_READ_RETURN)]);
    }

    #[test]
    fn two_functions_of_one_name_are_no_answer() {
        let binary = resolved(&program(V1_20, Says::Header, &[READ, WRITE, WRITE]));
        assert_eq!(offsets(&binary), [(0x6, op::GO_READ), (0x9, op::GO_READ_RETURN)]);
    }

    #[test]
    fn an_old_table_is_named_where_there_is_tls() {
        let binary = resolved(&program(0xffff_fffa, Says::Header, &[READ]));
        assert_eq!(offsets(&binary), []);
        assert!(binary.stacks[0].why[0].contains("Go 1.16 or 1.17 is not supported"), "{:?}", binary.stacks);
        assert_eq!(resolved(&program(0xffff_fffa, Says::Header, &["main.main"])).stacks, []);
    }

    #[test]
    fn a_damaged_table_has_no_sites() {
        let whole = program(V1_20, Says::Header, &["runtime.main", READ, WRITE]);
        let sites_with = |at: u64, value: u64| {
            let mut content = whole.clone();
            content[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
            resolved(&content).sites().count()
        };
        assert_eq!(sites_with(TABLE + 8, 3), 4, "as it was");
        // Number of functions; start of the code; places of names and functions; an entry.
        assert_eq!([0, 1 << 20, u64::MAX].map(|count| sites_with(TABLE + 8, count)), [0; 3]);
        assert_eq!([1, u64::MAX].map(|text| sites_with(TABLE + 24, text)), [0; 2]);
        assert_eq!([0, u64::MAX, 1 << 40].map(|names| sites_with(TABLE + 32, names)), [0; 3]);
        assert_eq!([0, u64::MAX, 1 << 40].map(|functions| sites_with(TABLE + 64, functions)), [0; 3]);
        assert_eq!(sites_with(TABLE + FUNCTIONS + 8, u64::MAX), 0);
    }
}
