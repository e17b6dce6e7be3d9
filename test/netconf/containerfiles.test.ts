import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import YAML from "yaml";
import { Failure } from "../../src/kit/failure.js";
import {
  CONTAINER_ACTIONS,
  type ContainerValues,
  PUSHED_FILES,
  type RenderedFile,
  readTemplates,
  renderContainerFiles,
} from "../../src/netconf/containerfiles.js";
import { agentConfig } from "../../src/wire/agentconfig.js";
import { coordinatorConfig } from "../../src/wire/coordinatorconfig.js";

/** Whole texts, compared with test/golden/container/; EXITNODE_GOLDEN=write makes them anew, for `git diff` to show. */
const GOLDEN = "test/golden/container";

const KEY = `${"A".repeat(43)}=`;
const FULL: ContainerValues = {
  allowLan: ["192.168.1.20/32", "fd00:1::/64"],
  protect: ["203.0.113.0/29"],
  resolvers: ["192.168.1.1", "fd00::1"],
  gateways6: ["2001:db8::1"],
  tunnelIpv6: "fd5e:a1b2:c3d4::/48",
  agent: {
    name: "home",
    urls: ["https://192.168.1.5:443", "https://[2001:db8::5]:443"],
    publicKey: KEY,
    forwardedPort: 51_820,
    whoami: ["https://whoami.example/"],
  },
  coordinator: { urls: ["https://203.0.113.9"], whoami: ["http://whoami.example/"], adminTokenSha256: "0".repeat(64) },
};

const sources = await readTemplates(async (name) => readFileSync(`templates/${name}`, "utf8"));

for (const [name, values] of Object.entries({ plain: {}, full: FULL }))
  test(`${name} values give exactly the files that were agreed on`, () => {
    for (const file of renderContainerFiles(sources, values)) {
      const golden = join(GOLDEN, name, file.path);
      if (process.env.EXITNODE_GOLDEN === "write") {
        mkdirSync(dirname(golden), { recursive: true });
        writeFileSync(golden, file.content);
      }
      assert.equal(file.content, readFileSync(golden, "utf8"), file.path);
    }
  });

test("without an agent and a coordinator there is no configuration for either", () => {
  const paths = renderContainerFiles(sources, {}).map((file) => file.path);
  assert.deepEqual(
    paths.filter((path) => path.startsWith("/etc/exitnode/")),
    [],
  );
});

test("agent.yaml and coordinator.yaml are what the daemons expect", () => {
  const files = renderContainerFiles(sources, FULL);
  const agent = agentConfig.parse(YAML.parse(contentOf(files, "/etc/exitnode/agent.yaml")));
  assert.deepEqual(agent, {
    name: "home",
    role: "exit-node",
    coordinator: { urls: ["https://192.168.1.5:443", "https://[2001:db8::5]:443"], publicKey: KEY },
    interface: "exn0",
    listenPort: 51_820,
    dataPlane: "auto",
    forwardedPort: 51_820,
    whoami: ["https://whoami.example/"],
  });
  const coordinator = coordinatorConfig.parse(YAML.parse(contentOf(files, "/etc/exitnode/coordinator.yaml")));
  assert.deepEqual(coordinator, {
    listen: { address: "::", port: 443 },
    urls: ["https://203.0.113.9"],
    ipv4: "100.64.0.0/10",
    mtu: 1_280,
    whoami: ["http://whoami.example/"],
    adminTokenSha256: "0".repeat(64),
    relay: { enabled: true, stunPort: 3_478, otherStunPort: 3_479 },
    relays: [],
    store: { kind: "sqlite" },
  });
});

test("a configuration is readable by its daemon and not by the world", () => {
  for (const { path, mode, owner, group } of renderContainerFiles(sources, FULL))
    if (path.endsWith(".yaml"))
      assert.deepEqual({ mode, owner, named: group !== "root" }, { mode: 0o640, owner: "root", named: true }, path);
});

for (const [what, values] of Object.entries<ContainerValues>({
  "an interface name with a quote": { uplink: 'eth0"' },
  "an interface name with a line break": { uplink: "eth0\naccept" },
  "a name that YAML would end": { ...FULL, agent: { name: 'a"\nb', urls: ["https://a"], publicKey: KEY } },
  "a URL with a quote": { ...FULL, agent: { name: "a", urls: ['https://a/"'], publicKey: KEY } },
  "a URL with a line break": { ...FULL, agent: { name: "a", urls: ["https://a/\nx"], publicKey: KEY } },
  "a prefix that is none": { allowLan: ["192.168.1.0/24 } accept"] },
  "an IPv6 prefix where IPv4 is meant": { tunnelIpv4: "fd00::/8" },
}))
  test(`${what} is refused`, () => {
    assert.throws(
      () => renderContainerFiles(sources, values),
      (error) => error instanceof Failure && error.code === "container-values-invalid",
    );
  });

test("every action a file asks for is one that can be done", () => {
  const known = new Set(CONTAINER_ACTIONS.map(({ action }) => action));
  for (const { path, onChange } of [...renderContainerFiles(sources, FULL), ...PUSHED_FILES])
    for (const action of onChange) assert.ok(known.has(action), `${path}: ${action}`);
});

function contentOf(files: readonly RenderedFile[], path: string): string {
  const file = files.find((one) => one.path === path);
  assert.ok(file !== undefined, path);
  return file.content;
}
