import assert from "node:assert/strict";
import { test } from "node:test";
import type { Config } from "../../src/cli/config.js";
import { whoamiToTell } from "../../src/cli/whoamiurls.js";
import { DEFAULTS } from "../../src/provision/spec.js";

const LAB = ["http://whoami.lab/"];
const host = (whoami?: string[]): Config["hosts"][string] => ({
  ...{ url: "https://198.18.77.10:8006", fingerprint: Array(32).fill("AB").join(":"), login: "root@pam" },
  defaults: whoami === undefined ? {} : { whoami },
});

for (const { name, wanted, hosts, told } of [
  { name: "what was asked for, whatever the hosts name", wanted: "http://a/,http://b/", hosts: { lab: host(LAB) } },
  { name: "what all hosts name", hosts: { lab: host(LAB), "lab-token": host(LAB) }, told: LAB },
  { name: "ours, where one of them names nothing", hosts: { lab: host(LAB), pve1: host() }, told: DEFAULTS.whoami },
  { name: "ours, where they differ", hosts: { lab: host(LAB), pve1: host(["http://c/"]) }, told: DEFAULTS.whoami },
  { name: "ours, without any host", wanted: "", hosts: {}, told: DEFAULTS.whoami },
] satisfies { name: string; wanted?: string; hosts: Config["hosts"]; told?: readonly string[] }[])
  test(`a coordinator tells its devices to ask ${name}`, () => {
    assert.deepEqual(whoamiToTell(wanted, hosts), told ?? ["http://a/", "http://b/"]);
  });
