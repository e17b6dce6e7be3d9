import { Failure } from "../kit/failure.js";
import { handOn } from "../lab/handon.js";
import { CLUSTER_NAME, HOSTS_MAX, type LabHost, labHosts } from "../lab/hosts.js";
import { HTTP_PORT, namespaceOf, PVE_PORT } from "../lab/internet.js";
import { releaseLease } from "../lab/lease.js";
import { NETNS_DIR } from "../lab/places.js";
import type { PveNode } from "../lab/pve/server.js";
import { serveHomeServer, serveWeb } from "../lab/web.js";
import type { Call, Outcome } from "./command.js";

/** The lab's own daemons, each started by `lab up` inside its place and ended by SIGTERM. */

const ENDED: Outcome = { value: {}, text: "" };

export async function serveWebSite({ signal }: Call): Promise<Outcome> {
  await serveWeb(HTTP_PORT, signal);
  return ENDED;
}

export async function serveNas({ signal }: Call): Promise<Outcome> {
  await serveHomeServer(HTTP_PORT, signal);
  return ENDED;
}

/** One host by itself; or the whole cluster on its first host, whose others hand on what they get. */
export async function serveProxmox({ args, options, signal, parts }: Call): Promise<Outcome> {
  const all = labHosts(HOSTS_MAX);
  const host = all.find(({ name }) => name === args[0]);
  if (host === undefined) throw new Failure("usage", `expected one of ${all.map(({ name }) => name).join(", ")}`);
  const members = typeof options.cluster === "string" ? all.slice(0, Number(options.cluster)) : [host];
  if (host.name !== members[0]?.name) {
    await handOn({ address: host.address, port: PVE_PORT, socket: host.socket, signal });
    return ENDED;
  }
  const { servePve } = await import("../lab/pve/server.js");
  await servePve({
    nodes: members.map((member) => nodeOf(member, member === host)),
    clusterName: CLUSTER_NAME,
    signal,
    released: (mac) => releaseLease(parts.files, mac),
  });
  return ENDED;
}

const nodeOf = ({ name, address, stateDir, storageDir, socket }: LabHost, here: boolean): PveNode => ({
  nodeName: name,
  address,
  stateDir,
  storageDir,
  listen: here ? { port: PVE_PORT } : { socket },
  enter: here ? [] : ["/usr/bin/nsenter", `--net=${NETNS_DIR}/${namespaceOf(name)}`],
});
