import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { isSignedBy, parsePrivateKey, publicKeyOf, tryPublicKey } from "../../src/appliance/signature.js";
import { ensureSigningKey, signAppliance, verifyingKey } from "../../src/cli/appliancekey.js";
import { utf8 } from "../../src/kit/bytes.js";
import { makeHome } from "../cli/hostworld.js";

const home = makeHome();
after(() => home.remove());
const { parts } = home.call([]);
const keyFile = join(home.folder, "appliance_ed25519");

test("the signing key is made once, in a file that only its owner reads", async () => {
  const { publicKey } = await ensureSigningKey(parts);
  assert.equal((await ensureSigningKey(parts)).publicKey, publicKey);
  assert.equal(statSync(keyFile).mode & 0o777, 0o600);
  assert.equal(await verifyingKey(parts, undefined), publicKey);
  assert.equal(await verifyingKey(parts, publicKey), publicKey);
  assert.equal(await verifyingKey(parts, `${keyFile}.pub`), publicKey);
});

test("OpenSSL reads both keys and agrees with the signature", async () => {
  const template = join(home.folder, "t.tar.xz");
  writeFileSync(`${template}.json`, "{}");
  const publicKey = await signAppliance(parts, template);
  const check = [
    "pkeyutl",
    "-verify",
    "-pubin",
    "-inkey",
    `${keyFile}.pub`,
    "-rawin",
    "-sigfile",
    `${template}.json.sig`,
  ];
  assert.equal(spawnSync("openssl", [...check, "-in", `${template}.json`]).status, 0);
  const shown = execFileSync("openssl", ["pkey", "-in", keyFile, "-pubout"], { encoding: "utf8" });
  assert.equal(tryPublicKey(shown), publicKey);
});

test("an altered manifest, another key and a cut signature are all refused", () => {
  const seed = parsePrivateKey(readFileSync(keyFile, "utf8"), keyFile);
  const signature = new Uint8Array(readFileSync(join(home.folder, "t.tar.xz.json.sig")));
  assert.equal(isSignedBy(publicKeyOf(seed), utf8("{}"), signature), true);
  assert.equal(isSignedBy(publicKeyOf(seed), utf8("{ }"), signature), false);
  assert.equal(isSignedBy(publicKeyOf(new Uint8Array(32)), utf8("{}"), signature), false);
  assert.equal(isSignedBy(publicKeyOf(seed), utf8("{}"), signature.subarray(1)), false);
});

test("a key file that is none is refused without its content", () => {
  assert.throws(() => parsePrivateKey("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "/k"), {
    code: "signing-key-invalid",
    message: "/k is not an Ed25519 private key in PEM",
  });
});

test("who has signed nothing and names no key is told to name one", async () => {
  const stranger = makeHome();
  try {
    await assert.rejects(verifyingKey(stranger.call([]).parts, undefined), { code: "public-key-missing" });
    await assert.rejects(verifyingKey(stranger.call([]).parts, "nonsense"), { code: "public-key-missing" });
  } finally {
    stranger.remove();
  }
});
