import assert from "node:assert/strict";
import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

/** The repository polices itself: who may import whom, and why. ARCHITECTURE.md tells the same in words. */

type Rule = {
  /** Folders whose values may be imported. */
  readonly values: readonly string[];
  /** Folders of which only types may be imported. */
  readonly types: readonly string[];
  /** Packages and built-ins, by prefix. */
  readonly packages: readonly string[];
  readonly why: string;
};

/** Deterministic parts of node:crypto: kit/crypto.ts alone may import it, and no function of it that makes chance. */
const RULES: Record<string, Rule> = {
  kit: { values: [], types: [], packages: ["@noble/", "node:crypto"], why: "words without a world" },
  wire: { values: ["kit"], types: [], packages: ["zod"], why: "messages are the same on every machine" },
  wireguard: {
    values: ["kit"],
    types: [],
    packages: ["@noble/"],
    why: "the protocol is tested without sockets or clock",
  },
  nat: { values: ["kit", "wire"], types: [], packages: [], why: "a lab Internet cannot stand in for a real socket" },
  netconf: { values: ["kit"], types: [], packages: ["zod", "handlebars"], why: "a value in, text or commands out" },
  sys: { values: ["kit"], types: [], packages: ["node:", "*"], why: "effects only, decisions elsewhere" },
  engine: {
    values: ["kit", "wireguard", "sys"],
    types: [],
    packages: ["node:worker_threads", "node:url"],
    why: "packets, nothing else",
  },
  relay: {
    values: ["kit", "wire"],
    types: ["sys"],
    packages: [],
    why: "it never sees plaintext, nor a peer's configuration",
  },
  agent: {
    values: ["kit", "wire", "wireguard", "nat", "netconf", "relay"],
    types: ["sys", "engine"],
    packages: ["node:path", "zod", "dns-packet"],
    why: "the cores meet here, and the world is handed in",
  },
  coordinator: {
    values: ["kit", "wire"],
    types: ["sys"],
    packages: ["hono", "kysely", "zod", "yaml", "jose", "openid-client", "@simplewebauthn/server", "node:path"],
    why: "decisions are pure; sockets and SQL engines are handed in",
  },
  pve: { values: ["kit"], types: ["sys"], packages: ["zod", "proxmox-api", "node:path"], why: "a client of one API" },
  provision: {
    values: ["kit", "pve", "netconf", "wire"],
    types: ["sys"],
    packages: ["zod", "yaml", "node:path"],
    why: "a host must be set up while the coordinator is down",
  },
  appliance: {
    values: ["kit", "netconf"],
    types: ["sys"],
    packages: ["zod", "yaml", "node:path"],
    why: "the same inputs give the same bytes",
  },
  lab: {
    values: ["kit", "netconf"],
    types: ["sys"],
    packages: ["node:", "execa", "zod", "selfsigned", "ws", "yaml"],
    why: "it stands in for a machine that is not ours, so it shares no code with what is tested against it",
  },
  cli: {
    values: ["*"],
    types: ["*"],
    packages: ["*"],
    why: "commands parse, call and show",
  },
};

/** Folders that may touch no world at all, by any of these words. */
const PURE = ["kit", "wire", "wireguard", "nat", "netconf"];
const WORLDLY =
  /\b(process\.|Date\.now|Math\.random|performance\.now|setTimeout|setInterval|console\.|randomBytes|fetch\()/;
const LINES_MAX = 350;
const UNNAMED = /(^|\/)(utils?|helpers?|common|misc|types|manager|index)\.ts$/;

const root = findRoot();
const sources = filesUnder(join(root, "src")).map((path) => relative(join(root, "src"), path));

type Import = { readonly from: string; readonly to: string; readonly typeOnly: boolean };

function importsOf(path: string): Import[] {
  const text = readFileSync(join(root, "src", path), "utf8");
  const found: Import[] = [];
  for (const match of text.matchAll(/^(?:import|export)\s+(type\s+)?(?:([^"';]*?)\s+from\s+)?"([^"]+)"/gm)) {
    const names = match[2] ?? "";
    const inner = /^\{([^}]*)\}$/.exec(names.trim())?.[1];
    const allTypes = inner?.split(",").every((name) => name.trim() === "" || name.trim().startsWith("type ")) === true;
    found.push({ from: path, to: match[3] ?? "", typeOnly: match[1] !== undefined || allTypes });
  }
  for (const match of text.matchAll(/\bimport\("([^"]+)"\)/g))
    found.push({ from: path, to: match[1] ?? "", typeOnly: false });
  return found;
}

const resolved = ({ from, to }: Import): string => normalize(join(dirname(from), to)).replace(/\.js$/, ".ts");

test("every folder imports only what the table allows", () => {
  const broken: string[] = [];
  for (const path of sources) {
    const folder = path.includes("/") ? path.slice(0, path.indexOf("/")) : "";
    const rule = RULES[folder];
    if (rule === undefined) {
      if (folder !== "") broken.push(`${path}: the folder ${folder} is not in the table`);
      continue;
    }
    for (const one of importsOf(path)) {
      const to = one.to.startsWith(".") ? resolved(one) : undefined;
      if (to === undefined) {
        const fits = rule.packages.some((prefix) => prefix === "*" || one.to.startsWith(prefix));
        if (!fits) broken.push(`${path} imports ${one.to}: ${rule.why}`);
        continue;
      }
      const target = to.includes("/") ? to.slice(0, to.indexOf("/")) : "";
      const fits =
        target === folder ||
        rule.values.includes(target) ||
        rule.values.includes("*") ||
        target === "" ||
        (one.typeOnly && rule.types.includes(target));
      if (!fits) broken.push(`${path} imports ${one.typeOnly ? "types" : "values"} of ${target}: ${rule.why}`);
    }
  }
  assert.deepEqual(broken, []);
});

test("no file imports itself by a detour, types included", () => {
  const graph = new Map(
    sources.map(
      (path) =>
        [
          path,
          importsOf(path)
            .filter((one) => one.to.startsWith("."))
            .map(resolved),
        ] as const,
    ),
  );
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(" → "));
    else if (!done.has(path)) {
      for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
      done.add(path);
    }
  };
  for (const path of sources) visit(path, []);
  assert.deepEqual(cycles, []);
});

test("pure folders touch neither clock nor chance nor process", () => {
  const broken = sources
    .filter((path) => PURE.includes(path.split("/")[0] ?? ""))
    .filter((path) => WORLDLY.test(withoutComments(readFileSync(join(root, "src", path), "utf8"))));
  assert.deepEqual(broken, []);
});

test("only kit/crypto.ts of the pure folders imports node:crypto, and only main files end the process", () => {
  const crypto = sources
    .filter((path) => PURE.includes(path.split("/")[0] ?? ""))
    .filter((path) => importsOf(path).some(({ to }) => to === "node:crypto"));
  assert.deepEqual(crypto, ["kit/crypto.ts"]);
  const exits = sources.filter((path) => /process\.exit\(/.test(readFileSync(join(root, "src", path), "utf8")));
  assert.deepEqual(
    exits.filter((path) => path.includes("/")),
    [],
  );
});

test(`every source is one noun of at most ${LINES_MAX} lines, with a name that says which`, () => {
  const long = sources.filter(
    (path) => readFileSync(join(root, "src", path), "utf8").split("\n").length > LINES_MAX + 1,
  );
  assert.deepEqual(long, []);
  assert.deepEqual(
    sources.filter((path) => UNNAMED.test(path)),
    [],
  );
});

test("the version in the program is the package's, and every dependency is pinned exactly", () => {
  const manifest: unknown = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  assert.ok(manifest !== null && typeof manifest === "object" && "version" in manifest);
  const { version, dependencies, devDependencies } = manifest as {
    version: string;
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
  };
  assert.match(readFileSync(join(root, "src/version.ts"), "utf8"), new RegExp(`"${version}"`));
  const loose = Object.entries({ ...dependencies, ...devDependencies }).filter(
    ([, wanted]) => !/^\d+\.\d+\.\d+$/.test(wanted),
  );
  assert.deepEqual(loose, []);
});

test("no test is switched off by a word: what cannot run here says why it cannot", () => {
  const off = /\b(?:test|it|describe|suite)\.(?:skip|only|todo)\s*\(|\b(?:skip|only|todo):\s*true\b/;
  assert.deepEqual(
    filesUnder(join(root, "test")).filter((path) => off.test(readFileSync(path, "utf8"))),
    [],
  );
});

test("no source imports a test", () => {
  const outside = sources.filter((path) =>
    importsOf(path).some((one) => one.to.startsWith(".") && resolved(one).startsWith("../")),
  );
  assert.deepEqual(outside, []);
});

test("the README's two commands are there and can be run", () => {
  const promised = new Set(readFileSync(join(root, "README.md"), "utf8").match(/\.\/scripts\/[a-z-]+/g));
  assert.ok(promised.has("./scripts/demo") && promised.has("./scripts/test"), [...promised].join(" "));
  for (const path of promised) accessSync(join(root, path), constants.X_OK);
});

test("every file in templates/ goes somewhere: a source names it", () => {
  const text = sources.map((path) => readFileSync(join(root, "src", path), "utf8")).join("\n");
  const idle = readdirSync(join(root, "templates")).filter((name) => !text.includes(`"${name.replace(/\.hbs$/, "")}"`));
  assert.deepEqual(idle, []);
});

test("nothing names a place that only one machine has, nor a package registry", () => {
  const shown = ["src", "templates", "appliance", "scripts", "docs"]
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) => filesUnder(join(root, folder), ""))
    .concat(readdirSync(root).flatMap((name) => (name.endsWith(".md") ? [join(root, name)] : [])));
  const local = /\/work\/|npmjs|deb\.debian\.org/;
  assert.deepEqual(
    shown.filter((path) => local.test(readFileSync(path, "utf8"))),
    [],
  );
});

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "");
}

function filesUnder(folder: string, ending = ".ts"): string[] {
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((path) => path.endsWith(ending) && statSync(path).isFile())
    .sort();
}

/** The folder that holds package.json, above wherever the compiled test lies. */
function findRoot(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== "/"; folder = dirname(folder))
    if (readdirSync(folder).includes("package.json")) return folder;
  throw new Error("no package.json above the test");
}
