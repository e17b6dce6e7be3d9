import { utf8 } from "../../kit/bytes.js";
import { Failure } from "../../kit/failure.js";
import { type Cidr, tryCidr } from "../../kit/ip.js";
import { POLICY_BYTES_MAX } from "../../wire/policyapi.js";
import { issueWords } from "../../wire/schema.js";
import { type PolicyDocument, policyDocument } from "./document.js";
import type { Grant, Policy, PolicyTest, Target } from "./policy.js";
import {
  AUTOGROUPS,
  NAME,
  PORT_FORMS,
  PORT_MAX,
  readPorts,
  readSelector,
  SELECTOR_FORMS,
  type Selector,
} from "./selector.js";
import { type Path, readSource } from "./source.js";

/** Errors that are told at once; a file with more has one cause for most of them. */
const ERRORS_TOLD_MAX = 8;

type Complaint = { readonly line: number; readonly place: string; readonly message: string };
type Complain = (path: Path, message: string) => void;

/** The policy that a text says; a Failure names the lines and rules of what is wrong with it. */
export function parsePolicy(text: string): Policy {
  const bytes = utf8(text).length;
  if (bytes > POLICY_BYTES_MAX)
    throw new Failure("policy-invalid", `the policy has ${bytes} bytes, and at most ${POLICY_BYTES_MAX} are taken`);
  const source = readSource(text);
  const complaints: Complaint[] = source.errors.map((error) => ({ ...error, place: "" }));
  const complain: Complain = (path, message) =>
    complaints.push({ line: source.lineOf(path), place: placeText(path), message });
  if (complaints.length > 0) throw refusal(complaints);
  const shaped = policyDocument.safeParse(source.value);
  if (!shaped.success) {
    for (const issue of shaped.error.issues)
      if (issue.code === "unrecognized_keys")
        for (const key of issue.keys) complain([...issue.path.map(keyOf), key], `there is no such key here`);
      else complain(issue.path.map(keyOf), issueWords(issue));
    throw refusal(complaints);
  }
  const policy = understand(shaped.data, complain, source.lineOf);
  if (complaints.length > 0) throw refusal(complaints);
  return policy;
}

const keyOf = (key: PropertyKey): string | number => (typeof key === "number" ? key : String(key));

function refusal(complaints: readonly Complaint[]): Failure {
  const sorted = [...complaints].sort((a, b) => a.line - b.line);
  const told = sorted
    .slice(0, ERRORS_TOLD_MAX)
    .map(({ line, place, message }) => `line ${line}${place === "" ? "" : `, ${place}`}: ${message}`);
  const more = sorted.length - told.length;
  return new Failure("policy-invalid", [...told, ...(more > 0 ? [`and ${more} more`] : [])].join("\n"));
}

const placeText = (path: Path): string =>
  path.map((step, i) => (typeof step === "number" ? `[${step}]` : i === 0 ? step : `.${step}`)).join("");

function understand(document: PolicyDocument, complain: Complain, lineOf: (path: Path) => number): Policy {
  const hosts = new Map<string, Cidr>();
  for (const [name, text] of Object.entries(document.hosts)) {
    const network = tryCidr(text);
    if (!NAME.test(name)) complain(["hosts", name], "a host is called by a-z, 0-9 and -");
    else if (network === undefined) complain(["hosts", name], `expected an address or a prefix, got "${text}"`);
    else hosts.set(name, network);
  }
  const groups = new Map<string, readonly string[]>();
  for (const [key, logins] of Object.entries(document.groups)) {
    const selector = readSelector(key, hosts);
    if (selector?.kind !== "group") complain(["groups", key], `a group is called group:NAME, of a-z, 0-9 and -`);
    else groups.set(selector.name, logins);
    for (const [i, login] of logins.entries())
      if (readSelector(login, new Map())?.kind !== "login")
        complain(["groups", key, i], `a group is made of logins, and "${login}" is none`);
  }
  const tags = new Set<string>();
  for (const key of Object.keys(document.tagOwners)) {
    const selector = readSelector(key, hosts);
    if (selector?.kind !== "tag") complain(["tagOwners", key], `a tag is called tag:NAME, of a-z, 0-9 and -`);
    else tags.add(selector.name);
  }
  const known = { group: [...groups.keys()], tag: [...tags], hosts };
  const read = reader(known, complain);
  const tagOwners = new Map<string, Selector[]>();
  for (const [key, owners] of Object.entries(document.tagOwners))
    tagOwners.set(key.slice("tag:".length), read.all(owners, ["tagOwners", key], PEOPLE));
  return {
    groups,
    tagOwners,
    grants: document.grants.map((grant, i) => grantOf(grant, ["grants", i], read, complain)),
    autoApprovers: {
      routes: Object.entries(document.autoApprovers.routes).flatMap(([key, by]) => {
        const path = ["autoApprovers", "routes", key];
        const prefix = hosts.get(key) ?? tryCidr(key);
        if (prefix === undefined) complain(path, `expected a prefix or a host's name, got "${key}"`);
        const approvers = read.all(by, path, DEVICES);
        return prefix === undefined ? [] : [{ prefix, by: approvers }];
      }),
      exitNode: read.all(document.autoApprovers.exitNode, ["autoApprovers", "exitNode"], DEVICES),
    },
    tests: document.tests.map((test, i) => testOf(test, ["tests", i], read, complain, lineOf)),
  };
}

/** Which kinds make sense where, and what is said where they do not. */
type Sense = { readonly fits: (selector: Selector) => boolean; readonly wants: string };
const isAuto = (selector: Selector, ...names: readonly string[]): boolean =>
  selector.kind === "autogroup" && names.includes(selector.name);
const SOURCES: Sense = {
  fits: (one) => !isAuto(one, "self", "internet"),
  wants: "is a destination, and cannot be where something comes from",
};
const TARGETS: Sense = { fits: () => true, wants: "" };
const DEVICES: Sense = {
  fits: (one) => one.kind !== "network" && !isAuto(one, "self", "internet"),
  wants: "names no devices",
};
const PEOPLE: Sense = {
  fits: (one) => one.kind === "login" || one.kind === "group" || isAuto(one, "admin", "member"),
  wants: "names no people",
};

type Reader = {
  one(text: string, path: Path, sense: Sense): Selector | undefined;
  all(texts: readonly string[], path: Path, sense: Sense): Selector[];
};

function reader(
  known: { readonly group: readonly string[]; readonly tag: readonly string[]; readonly hosts: Map<string, Cidr> },
  complain: Complain,
): Reader {
  const one = (text: string, path: Path, sense: Sense): Selector | undefined => {
    const selector = readSelector(text, known.hosts);
    if (selector === undefined) {
      const near = text.startsWith("autogroup:") ? nearest(text.slice("autogroup:".length), AUTOGROUPS) : undefined;
      const hint = near === undefined ? `expected ${SELECTOR_FORMS}` : `did you mean autogroup:${near}?`;
      complain(path, `"${text}" means nothing here; ${hint}`);
      return undefined;
    }
    if (!sense.fits(selector)) complain(path, `${text} ${sense.wants}`);
    if (selector.kind !== "group" && selector.kind !== "tag") return selector;
    const names = known[selector.kind];
    if (names.includes(selector.name)) return selector;
    const near = nearest(selector.name, names);
    const where = selector.kind === "group" ? "groups" : "tagOwners";
    const hint = near === undefined ? `add it to ${where}` : `did you mean ${selector.kind}:${near}?`;
    complain(path, `${text} is not defined; ${hint}`);
    return undefined;
  };
  return {
    one,
    all: (texts, path, sense) =>
      texts.flatMap((text, i) => {
        const selector = one(text, [...path, i], sense);
        return selector === undefined ? [] : [selector];
      }),
  };
}

function grantOf(grant: PolicyDocument["grants"][number], path: Path, read: Reader, complain: Complain): Grant {
  const dst = read.all(grant.dst, [...path, "dst"], TARGETS);
  if (grant.via !== undefined && !dst.some((one) => one.kind === "network" || isAuto(one, "internet")))
    complain([...path, "via"], "goes with a destination outside of the network: autogroup:internet or a prefix");
  return {
    src: read.all(grant.src, [...path, "src"], SOURCES),
    dst,
    ports: grant.ip.flatMap((text, i) => {
      const ports = readPorts(text);
      if (ports === undefined) complain([...path, "ip", i], `expected ${PORT_FORMS}, got "${text}"`);
      return ports ?? [];
    }),
    via: viaOf(grant.via, path, read),
  };
}

/** A bare word is an exit node's name here: these come by an administrator's key alone. */
function viaOf(via: readonly string[] | undefined, path: Path, read: Reader): Selector[] | undefined {
  const named = via?.map((text) => (NAME.test(text) ? `device:${text}` : text));
  return named === undefined ? undefined : read.all(named, [...path, "via"], DEVICES);
}

function testOf(
  test: PolicyDocument["tests"][number],
  path: Path,
  read: Reader,
  complain: Complain,
  lineOf: (path: Path) => number,
): PolicyTest {
  const targets = (name: "accept" | "deny"): Target[] =>
    test[name].flatMap((text, i) => {
      const at = [...path, name, i];
      // The address of an IPv6 target stands in brackets, as in a URL.
      const [, bracketed, bare, digits] = /^(?:\[([^\]]+)\]|(.*?))(?::(\d{1,5}|\*))?$/.exec(text) ?? [];
      const port = Number(digits === "*" ? 0 : (digits ?? 0));
      if (digits === undefined && test.proto !== "icmp") complain(at, `expected a port, as in "${text}:22"`);
      if (port > PORT_MAX) complain(at, `expected a port up to ${PORT_MAX}, got ${port}`);
      const dst = read.one(bracketed ?? bare ?? "", at, TARGETS);
      return dst === undefined ? [] : [{ text, dst, port }];
    });
  return {
    line: lineOf(path),
    src: read.one(test.src, [...path, "src"], SOURCES) ?? { kind: "everyone" },
    protocol: test.proto,
    accept: targets("accept"),
    deny: targets("deny"),
    via: viaOf(test.via, path, read),
  };
}

/** The known word that differs from `word` in two letters at most. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const near = known
    .map((one) => ({ one, distance: editDistance(word, one) }))
    .filter(({ distance }) => distance <= 2)
    .sort((a, b) => a.distance - b.distance);
  return near[0]?.one;
}

/** Levenshtein's distance, with a swap of neighbours as one edit. */
function editDistance(a: string, b: string): number {
  let [before, above]: number[][] = [[], Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? (before?.[j - 2] ?? i) + 1 : Infinity;
      const changed = (above?.[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min((above?.[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, changed, swapped));
    }
    before = above;
    above = row;
  }
  return above?.[b.length] ?? 0;
}
