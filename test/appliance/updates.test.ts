import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Container } from "./container.js";

/**
 * A template in a real unprivileged container: how it boots, and what the nightly updates do with an archive of one
 * package. EXITNODE_TEST_APPLIANCE names the template; it takes root and LXC.
 */
const template = process.env.EXITNODE_TEST_APPLIANCE;
const skip =
  template && existsSync("/usr/bin/lxc-start") ? false : "set EXITNODE_TEST_APPLIANCE to a template; needs LXC";

const BOOT_MS_MAX = 3_000;
const SOURCES = "Types: deb\nURIs: copy:/srv/archive\nSuites: ./\nTrusted: yes\n";
const folder = mkdtempSync(join(tmpdir(), "exn-apl-test-"));
let container: Container | undefined;
let state = "";

before(() => {
  if (skip) return;
  container = new Container("exn-apl-test", template ?? "");
  container.write("/etc/apt/sources.list.d/debian-security.sources", SOURCES);
  state = container.boot();
});
after(() => {
  container?.remove();
  rmSync(folder, { recursive: true, force: true });
});

function inside(): Container {
  assert.ok(container !== undefined);
  return container;
}

const script = (text: string): string => inside().run(["sh", "-c", text]).stdout.trim();

test("it boots to `running` within three seconds, and no unit has failed", { skip }, () => {
  assert.equal(script("systemctl list-units --failed --plain --no-legend"), "");
  assert.equal(state, "running");
  const [, text = "", unit = ""] = /in ([\d.]+)(ms|s) \(userspace\)/.exec(script("systemd-analyze | head -1")) ?? [];
  const tookMs = Number(text) * (unit === "s" ? 1_000 : 1);
  assert.ok(tookMs > 0 && tookMs <= BOOT_MS_MAX, `${text}${unit}`);
});

test("root has no password, and the first boot enabled only what the presets name", { skip }, () => {
  assert.match(script("grep ^root: /etc/shadow"), /^root:[*!]/);
  const enabled = script(
    "systemctl list-unit-files --state=enabled --type=timer --plain --no-legend | cut -d ' ' -f 1",
  );
  assert.equal(enabled, "exitnode-updates.timer");
  assert.equal(script("systemctl is-active exitnode-updates.timer"), "active");
  assert.equal(script("systemctl is-enabled apt-daily.timer apt-daily-upgrade.timer || :"), "masked\nmasked");
});

test("an archive that does not answer is a warning today, and a failure once it has lasted a week", { skip }, () => {
  assert.equal(inside().run(["systemctl", "start", "exitnode-updates"]).exitCode, 0);
  assert.match(script("journalctl -u exitnode-updates -p warning -o cat"), /no security updates today/);
  script("touch -d '9 days ago' /var/lib/exitnode-updates/reached");
  assert.notEqual(inside().run(["systemctl", "start", "exitnode-updates"]).exitCode, 0);
  assert.match(script("journalctl -u exitnode-updates -p err -o cat"), /no security updates for more than 7 days/);
  script("systemctl reset-failed");
});

test("an update is installed, what another archive offers is not, and nothing is left on the disk", { skip }, () => {
  archive("archive", packageOf("1.0"), packageOf("1.1"));
  archive("other", packageOf("9.9"));
  inside().write("/etc/apt/sources.list.d/debian.sources", SOURCES.replace("archive", "other"));
  script("dpkg -i /srv/archive/exn-probe_1.0_all.deb");
  const ran = inside().run(["systemctl", "start", "exitnode-updates"]);
  const journal = script("journalctl -u exitnode-updates -o cat");
  assert.equal(ran.exitCode, 0, journal);
  assert.match(journal, /updated exn-probe to 1\.1/);
  assert.match(journal, /the exit node works as it did before/);
  assert.equal(script("ls -A /var/cache/exitnode-updates"), "");
  assert.equal(script("systemctl is-system-running"), "running");
});

test("an update that breaks the firewall is a failure that says so, and the container counts as degraded", {
  skip,
}, () => {
  script("systemctl start nftables");
  archive("archive", packageOf("1.2", "#!/bin/sh\nnft delete table inet exitnode\n"));
  assert.notEqual(inside().run(["systemctl", "start", "exitnode-updates"], 150_000).exitCode, 0);
  assert.match(
    script("journalctl -u exitnode-updates -p err -o cat"),
    /after security updates: the firewall's table is gone/,
  );
  assert.equal(script("systemctl is-system-running || :"), "degraded");
  script("systemctl reset-failed; systemctl restart nftables");
});

test("an update whose set-up fails is a failure, and the next night puts it in order", { skip }, () => {
  archive("archive", packageOf("1.3", "#!/bin/sh\n[ -e /srv/mended ]\n"));
  assert.notEqual(inside().run(["systemctl", "start", "exitnode-updates"]).exitCode, 0);
  assert.match(script("journalctl -u exitnode-updates -p err -o cat"), /not installed whole/);
  inside().write("/srv/mended", "");
  assert.equal(inside().run(["systemctl", "start", "exitnode-updates"]).exitCode, 0);
  assert.equal(script("dpkg --audit"), "");
});

/** An archive below /srv in the container, with these packages in it. */
function archive(where: string, ...packages: { name: string; content: Uint8Array }[]): void {
  script(`rm -rf /srv/${where}`);
  const place = mkdtempSync(join(folder, `${where}-`));
  for (const { name, content } of packages) writeFileSync(join(place, name), content);
  const index = packages.map(({ name, content }) => stanza(join(place, name), name, content)).join("\n");
  for (const { name, content } of packages) inside().write(join("/srv", where, name), content);
  inside().write(join("/srv", where, "Packages"), index);
}

function stanza(path: string, name: string, content: Uint8Array): string {
  const control = execFileSync("dpkg-deb", ["-f", path], { encoding: "utf8" });
  const sha256 = execFileSync("sha256sum", [path], { encoding: "utf8" }).slice(0, 64);
  return `${control.trim()}\nFilename: ./${name}\nSize: ${content.length}\nSHA256: ${sha256}\n`;
}

function packageOf(version: string, postinst?: string): { name: string; content: Uint8Array } {
  const root = mkdtempSync(join(folder, "package-"));
  mkdirSync(join(root, "DEBIAN"), { mode: 0o755 });
  const control = `Package: exn-probe\nVersion: ${version}\nArchitecture: all\nMaintainer: test <test@example.org>\nDescription: probe\n`;
  writeFileSync(join(root, "DEBIAN/control"), control);
  if (postinst !== undefined) writeFileSync(join(root, "DEBIAN/postinst"), postinst, { mode: 0o755 });
  const name = `exn-probe_${version}_all.deb`;
  const out = join(folder, name);
  execFileSync("dpkg-deb", ["--root-owner-group", "--build", root, out], { stdio: "ignore" });
  return { name, content: new Uint8Array(readFileSync(out)) };
}
