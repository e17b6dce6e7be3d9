import * as z from "zod";
import { cidrContains, type Ip, tryIp } from "../kit/ip.js";
import { tryJson } from "../kit/json.js";
import type { Exec } from "../sys/exec.js";
import type { NetInfo } from "../sys/netinfo.js";

/** The router that this machine's IPv4 goes out by, and the address that the router knows this machine by. */
export type Gateway = { readonly address: Ip; readonly client: Ip };

const routes = z.array(
  z.object({
    gateway: z.string().optional(),
    dev: z.string().optional(),
    prefsrc: z.string().optional(),
    metric: z.number().optional(),
  }),
);

/** Undefined without a default route, or with one that leads into the tunnel. */
export async function findGateway(exec: Exec, info: NetInfo, tunnel: string): Promise<Gateway | undefined> {
  const ran = await exec.run(["ip", "-4", "-j", "route", "show", "default"]).catch(() => undefined);
  return ran === undefined || ran.exitCode !== 0 ? undefined : gatewayIn(ran.stdout, info, tunnel);
}

export function gatewayIn(json: string, info: NetInfo, tunnel: string): Gateway | undefined {
  const parsed = routes.safeParse(tryJson(json));
  if (!parsed.success) return undefined;
  const sorted = [...parsed.data].sort((left, right) => (left.metric ?? 0) - (right.metric ?? 0));
  for (const { gateway, dev, prefsrc } of sorted) {
    const address = tryIp(gateway ?? "");
    if (address === undefined || dev === tunnel) continue;
    const own = info.addresses.filter((one) => one.interface === dev);
    const onLink = own.find(({ network }) => cidrContains(network, address)) ?? own[0];
    const client = tryIp(prefsrc ?? "") ?? onLink?.ip;
    if (client !== undefined) return { address, client };
  }
  return undefined;
}
