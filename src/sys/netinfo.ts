import { Resolver } from "node:dns";
import { networkInterfaces } from "node:os";
import { type Cidr, type Ip, tryCidr, tryIp } from "../kit/ip.js";

/** What this machine's interfaces and resolver configuration say. */
export type NetInfo = {
  readonly addresses: readonly { readonly interface: string; readonly ip: Ip; readonly network: Cidr }[];
  readonly resolvers: readonly Ip[];
};

export function readNetInfo(): NetInfo {
  const addresses = Object.entries(networkInterfaces()).flatMap(([name, entries = []]) =>
    entries
      .filter((entry) => !entry.internal)
      .flatMap((entry) => {
        const ip = tryIp(entry.address);
        const network = tryCidr(entry.cidr ?? entry.address);
        return ip === undefined || network === undefined ? [] : [{ interface: name, ip, network }];
      }),
  );
  // A resolver of its own each time: the process-wide one has read the configuration once, at its first use.
  const resolvers = new Resolver()
    .getServers()
    .flatMap((server) => tryIp(server.replace(/^\[(.*)\](?::\d+)?$/, "$1")) ?? []);
  return { addresses, resolvers };
}
