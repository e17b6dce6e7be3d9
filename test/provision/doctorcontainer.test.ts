import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { containerFindings } from "../../src/provision/doctor/container.js";
import { parseSymptoms, symptomScript } from "../../src/provision/doctor/symptoms.js";
import type { Finding } from "../../src/provision/preflight/finding.js";
import { configReply } from "../../src/pve/replies.js";
import { Container } from "../appliance/container.js";

/**
 * What only a real systemd in a real unprivileged container shows. Needs root, LXC, and our template, named in
 * EXITNODE_TEST_ROOTFS.
 */
const ARCHIVE = process.env.EXITNODE_TEST_ROOTFS ?? "";
const skip = process.getuid?.() !== 0 || !existsSync(ARCHIVE) ? "needs root and EXITNODE_TEST_ROOTFS" : false;

describe("a real container", { skip }, () => {
  let container: Container;
  before(() => {
    container = new Container("exn-d-real", ARCHIVE);
    assert.equal(container.boot(), "running");
  });
  after(() => container?.remove());

  function found(): Finding[] {
    const { exitCode, stdout } = container.run(["sh", "-c", symptomScript()]);
    assert.equal(exitCode, 0, stdout);
    const config = configReply({ net0: "name=eth0,bridge=vmbr0,ip=dhcp", unprivileged: 1, memory: 512 });
    const own = { vmid: 101, node: "pve1", running: true, identity: { id: "1", name: "home", given: {} }, config };
    const symptoms = parseSymptoms(stdout);
    const seen = { symptoms, inside: undefined, kernel: undefined, wallMs: Date.now() };
    return containerFindings({ container: own, hostName: "pve1", ...seen }).filter(
      ({ severity }) => severity !== "fine",
    );
  }
  const must = (...argv: string[]): void => {
    const ran = container.run(argv);
    assert.equal(ran.exitCode, 0, ran.stdout);
  };
  const unit = (name: string, ...lines: string[]): void => {
    container.write(`/etc/systemd/system/${name}`, ["[Service]", "Type=oneshot", ...lines, ""].join("\n"));
    must("systemctl", "daemon-reload");
    container.run(["systemctl", "start", name]);
  };
  const says = (findings: readonly Finding[], words: RegExp): void =>
    assert.ok(
      findings.some(({ what, why = "" }) => words.test(`${what}\n${why}`)),
      JSON.stringify(findings, null, 1),
    );

  test("of our template has nothing wrong but what is not set up yet", () => {
    assert.deepEqual(
      found().map(({ what }) => what),
      [],
    );
  });

  test("whose units fail for systemd's own reasons is understood", () => {
    unit("exn-shut-in.service", "ReadOnlyPaths=/not/there", "ExecStart=/bin/true");
    unit(
      "exn-module.service",
      "ExecStartPre=/bin/sh -c 'echo modprobe: FATAL: Module tun not found >&2; exit 1'",
      "ExecStart=/bin/true",
    );
    unit("chrony.service", "ExecStart=/bin/sh -c 'date -s 2030-01-01 >/dev/null'");
    const findings = found();
    says(findings, /exn-shut-in\.service fails with 226.*\n.*needs nesting/);
    says(findings, /exn-module\.service fails: modprobe: FATAL.*\n.*only the host can/);
    says(findings, /chrony\.service fails with 1: .*cannot set date.*\n.*has the host's clock/);
    must("systemctl", "reset-failed");
  });

  test("in which sshd, /tmp, / and forwarding were changed is understood", () => {
    must("systemctl", "unmask", "ssh.socket");
    must("systemctl", "stop", "ssh.service");
    must("systemctl", "start", "ssh.socket");
    must("mount", "-t", "tmpfs", "-o", "size=12G", "tmpfs", "/tmp");
    must("chown", "nobody", "/");
    must("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward");
    const findings = found();
    for (const words of [
      /ssh\.socket owns port 22/,
      /\/tmp is in memory/,
      /\/ belongs to nobody/,
      /net\.ipv4\.ip_forward is 0/,
    ])
      says(findings, words);
  });
});
