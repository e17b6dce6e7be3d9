import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import YAML from "yaml";
import { Failure } from "../../src/kit/failure.js";
import { MASKED_UNITS } from "../../src/netconf/containerfiles.js";
import {
  explainStockFailure,
  parseStock,
  planStock,
  STOCK_LOOK,
  STOCK_PACKAGES,
  type Stock,
} from "../../src/provision/stockpackages.js";

/** What Debian's own template lacks, as planned from what was seen. */
const FRESH: Stock = {
  system: "debian 13",
  packages: new Map(["openssh-server", "iproute2", "procps", "ca-certificates"].map((name) => [name, "1"])),
  masked: new Set(),
};

const ALL: Stock["packages"] = new Map(STOCK_PACKAGES.map((name) => [name, "99.0-1"]));

/** A container in which commands take effect. */
function done(stock: Stock): Stock {
  const packages = new Map(stock.packages);
  const masked = new Set(stock.masked);
  for (const { argv } of planStock(stock)) {
    const [program = "", ...rest] = argv;
    const names = rest.slice(rest.indexOf(program === "apt-get" ? "install" : "mask") + 1);
    if (program === "systemctl") for (const unit of names) masked.add(unit);
    else if (rest.includes("install")) for (const name of names) packages.set(name, "20.19.2+dfsg-1+deb13u3");
  }
  return { ...stock, packages, masked };
}

test("a fresh Debian 13 gets what it lacks and nothing else, lists first, and then has nothing left to do", () => {
  const steps = planStock(FRESH);
  assert.deepEqual(
    steps.map(({ words }) => words),
    ["read the package lists", "install nodejs, nftables, wireguard-tools", `mask ${MASKED_UNITS.join(", ")}`],
  );
  assert.deepEqual(planStock(done(FRESH)), []);
});

test("a run that was killed between two steps goes on with what is left", () => {
  const half: Stock = { ...FRESH, packages: ALL, masked: new Set(["ssh.socket"]) };
  assert.deepEqual(
    planStock(half).map(({ argv }) => argv),
    [["systemctl", "mask", ...MASKED_UNITS.filter((unit) => unit !== "ssh.socket")]],
  );
});

test("apt asks nobody, waits for the first boot's own run, and brings no recommendations", () => {
  const install = planStock(FRESH)[1];
  assert.equal(install?.env.DEBIAN_FRONTEND, "noninteractive");
  for (const word of ["-y", "--no-install-recommends", "DPkg::Lock::Timeout=300"])
    assert.ok(install?.argv.includes(word));
});

for (const system of ["debian 12", "ubuntu 24.04", "alpine 3.22.0", undefined])
  test(`${system ?? "a system without a name"} is refused before anything is installed`, () => {
    assert.throws(() => planStock({ ...FRESH, system }), { name: "Failure", code: "template-unfit" });
  });

test("a system that has everything is not asked for its name", () => {
  const all: Stock = { system: undefined, packages: ALL, masked: new Set(MASKED_UNITS) };
  assert.deepEqual(planStock(all), []);
});

for (const { version, fits } of [
  { version: "18.13.0+dfsg1-1", fits: false },
  { version: "20.18.1-1", fits: false },
  { version: "20.19.2+dfsg-1+deb13u3", fits: true },
  { version: "22.1.0-1nodesource1", fits: true },
])
  test(`nodejs ${version} ${fits ? "runs" : "does not run"} the agent, wherever it came from`, () => {
    const stock: Stock = { system: "debian 12", packages: new Map([...ALL, ["nodejs", version]]), masked: new Set() };
    if (fits) assert.equal(planStock(stock).length, 1);
    else assert.throws(() => planStock(stock), { code: "node-too-old" });
  });

test("no network and a broken package are told apart, each with what to do", () => {
  const step = planStock(FRESH)[0];
  assert.ok(step !== undefined);
  const offline = explainStockFailure(step, "home", "E: Failed to fetch http://x  Temporary failure resolving 'x'");
  assert.ok(offline instanceof Failure && offline.code === "archive-unreachable");
  assert.match(offline.advice ?? "", /exitnode appliance build/);
  assert.equal(explainStockFailure(step, "home", "E: Sub-process dpkg returned an error").code, "packages-failed");
});

test("everything that a stock container gets is in our own template, too", () => {
  let root = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(root, "appliance/recipe.yaml"))) root = dirname(root);
  const recipe = YAML.parse(readFileSync(join(root, "appliance/recipe.yaml"), "utf8")) as { packages: string[] };
  for (const name of STOCK_PACKAGES) assert.ok(recipe.packages.includes(name), name);
});

const debian = existsSync("/usr/bin/dpkg-query") ? false : "this machine has no dpkg";

test("a real system is read: what dpkg says is installed, and nothing that it does not know", { skip: debian }, () => {
  const said = execFileSync("sh", ["-c", `${STOCK_LOOK}\nexit 0`], { encoding: "utf8" });
  const stock = parseStock(said.split("\n"));
  assert.match(stock.system ?? "", /^[a-z]+ \S/);
  for (const name of STOCK_PACKAGES) {
    const ran = execFileSync(
      "sh",
      ["-c", `dpkg-query -W -f '\${db:Status-Status}' ${name} 2>/dev/null || echo absent`],
      {
        encoding: "utf8",
      },
    );
    assert.equal(stock.packages.has(name), ran === "installed", `${name}: ${ran}`);
  }
});

test("a package that was removed and left its configuration does not count as installed", () => {
  const { packages } = parseStock(["package config-files nodejs 1", "package installed nftables 2-1"]);
  assert.deepEqual([...packages], [["nftables", "2-1"]]);
});
