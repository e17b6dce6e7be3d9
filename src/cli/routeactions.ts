import { Failure } from "../kit/failure.js";
import { tryCidr } from "../kit/ip.js";
import { type RouteInfo, routeInfo, routeList } from "../wire/policyapi.js";
import { callCoordinator } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { renderTable } from "./table.js";

export async function listRoutes(call: Call): Promise<Outcome> {
  const { routes } = await callCoordinator(call, routeList, "GET", "/routes");
  const rows = routes.map((one) => [one.device, one.route, standing(one)]);
  const text = rows.length === 0 ? "no device offers a route" : renderTable([["DEVICE", "ROUTE", "STATE"], ...rows]);
  return { value: { routes }, text };
}

export const approveRoute = (call: Call): Promise<Outcome> => change(call, "");
export const withdrawRoute = (call: Call): Promise<Outcome> => change(call, "/withdraw");

async function change(call: Call, verb: string): Promise<Outcome> {
  const [device = "", prefix = ""] = call.args;
  const route = tryCidr(prefix);
  if (route === undefined)
    throw new Failure("usage", `expected a prefix such as 192.168.1.0/24, got "${prefix}"`, {
      advice: "exitnode route list",
    });
  const path = `/devices/${encodeURIComponent(device)}/routes${verb}`;
  const found = await callCoordinator(call, routeInfo, "POST", path, { route });
  return { value: found, text: `${found.route} through ${found.device}: ${standing(found)}` };
}

function standing({ approvedBy, offered }: RouteInfo): string {
  if (approvedBy === undefined) return "waits for approval";
  const by = { role: "an exit node's", policy: "approved by the policy", administrator: "approved" }[approvedBy];
  return offered ? by : `${by}, not offered now`;
}
