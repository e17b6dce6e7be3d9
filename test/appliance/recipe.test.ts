import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { inspectListing, packageDifferences, parseListing, parsePackages } from "../../src/appliance/manifest.js";
import { archiveSources, explainBuildFailure } from "../../src/appliance/mirror.js";
import { applianceName, compressArgv, imageFiles, mmdebstrapArgv, parseRecipe } from "../../src/appliance/recipe.js";
import { Failure } from "../../src/kit/failure.js";
import { MASKED_UNITS } from "../../src/netconf/containerfiles.js";

const recipeText = readFileSync("appliance/recipe.yaml", "utf8");
const code = (expected: string) => (error: unknown) => error instanceof Failure && error.code === expected;

test("the template's name is one that Proxmox VE can read", () => {
  assert.equal(applianceName(parseRecipe(recipeText), "1.2.3"), "debian-13-exitnode_1.2.3_amd64.tar.xz");
});

test("a recipe with a word that is no package is refused", () => {
  const broken = recipeText.replace("- nftables\n", '- "nftables; reboot"\n');
  assert.throws(() => parseRecipe(broken), code("recipe-invalid"));
});

test("a recipe with a key of no meaning is refused", () => {
  assert.throws(() => parseRecipe(`${recipeText}\npackage: [x]\n`), code("recipe-invalid"));
});

test("a path with a quote in it stays one word in mmdebstrap's shell", () => {
  const argv = mmdebstrapArgv(parseRecipe(recipeText), {
    keyring: "/k.gpg",
    sources: [{ uri: "http://mirror.example/debian", suite: "trixie" }],
    overlay: "/tmp/it's/overlay.tar",
    packageList: "/tmp/list",
    licenceList: "/tmp/licences",
    target: "/tmp/image.tar",
  });
  assert.ok(argv.some((word) => word.includes("'/tmp/it'\\''s/overlay.tar'")));
  assert.deepEqual(argv.slice(-3), ["trixie", "/tmp/image.tar", "deb http://mirror.example/debian trixie main"]);
});

const TARGETS = [
  "Debian\thttp://mirror.example/debian/",
  "Debian\thttp://mirror.example/debian/",
  "Debian-Security\thttp://mirror.example/debian-security/",
  "Node Source\thttps://other.example/node_20.x/",
].join("\n");

test("packages come from the archive that apt uses, with its security archive", () => {
  assert.deepEqual(archiveSources(TARGETS, "trixie"), [
    { uri: "http://mirror.example/debian/", suite: "trixie" },
    { uri: "http://mirror.example/debian/", suite: "trixie-updates" },
    { uri: "http://mirror.example/debian-security/", suite: "trixie-security" },
  ]);
});

test("a machine whose apt knows no Debian archive is told to name one", () => {
  assert.throws(() => archiveSources("Ubuntu\thttp://mirror.example/ubuntu/\n", "trixie"), code("archive-unknown"));
  assert.throws(() => archiveSources("Debian\tcdrom://[Debian 13]/\n", "trixie"), code("archive-unknown"));
});

test("a named archive goes before apt's", () => {
  const [first] = archiveSources(TARGETS, "trixie", "http://near.example/debian");
  assert.equal(first?.uri, "http://near.example/debian");
});

for (const [said, expected] of [
  ["W: GPG error: the following signatures couldn't be verified: NO_PUBKEY 6ED0E7B82643E131", "archive-key-missing"],
  [
    "Err: Missing key 4CB50190207B4758A3F73A796ED0E7B82643E131, which is needed to verify signature",
    "archive-key-missing",
  ],
  ["E: The repository 'http://x trixie Release' does not have a Release file.", "archive-unreachable"],
  ["Temporary failure resolving 'mirror.example'", "archive-unreachable"],
  ["E: run_chroot failed", "appliance-build-failed"],
] as const)
  test(`mmdebstrap's "${said.slice(0, 40)}…" means ${expected}`, () => {
    assert.equal(explainBuildFailure(said, "trixie", "/k.gpg").code, expected);
  });

test("packing uses two threads however many cores there are, because xz writes other bytes with one", () => {
  const recipe = parseRecipe(recipeText);
  assert.ok(compressArgv(recipe, "/tmp/image.tar").includes("-T2"));
  assert.deepEqual(compressArgv({ ...recipe, compression: { format: "zst", level: 10 } }, "/t.tar").slice(-2), [
    "-10",
    "/t.tar",
  ]);
});

const TEXTS = Object.fromEntries(
  readdirSync("appliance/files").map((name) => [name, readFileSync(join("appliance/files", name), "utf8")]),
);

test("every file of appliance/files/ is in the image, and the update's script may be run", async () => {
  const files = await imageFiles(parseRecipe(recipeText), [], async (name) => TEXTS[name] ?? assert.fail(name));
  const contents = new Set(files.map((file) => file.content));
  assert.deepEqual(
    Object.keys(TEXTS).filter((name) => !contents.has(TEXTS[name] ?? "")),
    [],
  );
  assert.equal(files.find((file) => file.path === "/usr/lib/exitnode/security-updates")?.mode, 0o755);
});

test("the image's own archives are Debian's, whatever mirror it was built from", async () => {
  const files = await imageFiles(parseRecipe(recipeText), [], async () => "");
  const lists = files.filter((file) => file.path.startsWith("/etc/apt/sources.list.d/"));
  assert.deepEqual(lists.map((file) => file.path.replace(/.*\//, "")).sort(), [
    "debian-security.sources",
    "debian.sources",
  ]);
  for (const { content } of lists) assert.match(content, /^Types: deb\nURIs: http:\/\/[a-z]+\.debian\.org\//);
});

test("two lists of packages differ by what was added, removed and updated", () => {
  const list = (...pairs: [string, string][]) => pairs.map(([name, version]) => ({ name, version, installedKiB: 1 }));
  assert.deepEqual(
    packageDifferences(list(["a", "1"], ["b", "1"], ["c", "1"]), list(["a", "1"], ["b", "2"], ["d", "3"])),
    ["b 1 → 2", "c 1 → (absent)", "d (absent) → 3"],
  );
});

test("dpkg's list becomes packages in order of their names", () => {
  const lines = "zlib1g\t1:1.3\t170\tamd64\tzlib\t1:1.3\nadduser\t3.152\t180\tall\tadduser\t3.152\n";
  assert.deepEqual(parsePackages(lines), [
    { name: "adduser", version: "3.152", installedKiB: 180, architecture: "all" },
    {
      name: "zlib1g",
      version: "1:1.3",
      installedKiB: 170,
      architecture: "amd64",
      source: { name: "zlib", version: "1:1.3" },
    },
  ]);
});

const WHOLE = [
  "drwxr-xr-x 0/0               0 2026-01-01 00:00 ./dev/",
  "lrwxrwxrwx 0/0               0 2026-01-01 00:00 ./usr/bin/node -> nodejs",
  "-rwxr-xr-x 0/0          900000 2026-01-01 00:00 ./usr/sbin/sshd",
  "-rwxr-xr-x 0/0           30000 2026-01-01 00:00 ./usr/sbin/nft",
  "-rw------- 0/0            4000 1970-01-01 00:00 ./etc/nftables.conf",
  "-rw-r--r-- 0/0               0 2026-01-01 00:00 ./etc/machine-id",
  ...MASKED_UNITS.map((unit) => `lrwxrwxrwx 0/0 0 2026-01-01 00:00 ./etc/systemd/system/${unit} -> /dev/null`),
];

test("a whole template has nothing to complain of", () => {
  assert.deepEqual(inspectListing(parseListing(WHOLE.join("\n")), MASKED_UNITS), []);
});

for (const [line, complaint] of [
  ["-rw------- 0/0 411 2026-01-01 00:00 ./etc/ssh/ssh_host_ed25519_key", /a host key that every container would share/],
  ["-rw-r--r-- 0/0 3 2026-01-01 00:00 ./etc/hostname", /the builder's/],
  ["-rw-r--r-- 0/0 99 2026-01-01 00:00 ./etc/apt/sources.list", /the builder's/],
  ["crw-rw-rw- 0/0 5,1 2026-01-01 00:00 ./dev/console", /a device node/],
] as const)
  test(`a template with ${line.slice(line.indexOf("./") + 1)} is unfit`, () => {
    assert.match(inspectListing(parseListing([...WHOLE, line].join("\n")), MASKED_UNITS).join(), complaint);
  });

test("a machine id that every container would share is found", () => {
  const listing = WHOLE.map((line) => (line.endsWith("machine-id") ? line.replace(" 0 2026", " 33 2026") : line));
  assert.match(inspectListing(parseListing(listing.join("\n")), MASKED_UNITS).join(), /machine-id: not empty/);
});

test("a unit that lost its mask is found", () => {
  const listing = WHOLE.filter((line) => !line.includes("ssh.socket"));
  assert.deepEqual(inspectListing(parseListing(listing.join("\n")), MASKED_UNITS), ["ssh.socket: not masked"]);
});
