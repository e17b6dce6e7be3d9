import { Failure } from "../../kit/failure.js";
import type { Cidr } from "../../kit/ip.js";
import { type RouteInfo, routeInfo, routeList, routeRequest } from "../../wire/policyapi.js";
import { type Device, isMember } from "../device.js";
import { isWhole, overlap } from "../policy/prefixes.js";
import { DEFAULT_ROUTES } from "../routes.js";
import type { ApiParts } from "./parts.js";
import { Reach } from "./reach.js";
import { type Route, route } from "./route.js";

/** Approved by an administrator for one device. */
export const APPROVED_ROUTES_MAX = 64;

/** The operations on routes through devices, which need approval. */
export function networkRouteRoutes(parts: ApiParts): Route[] {
  const { registry, switchboard, policies, people } = parts;
  const reach = new Reach(people);
  const amend = async (...[id, by, action, routes]: Amendment): Promise<Device> => {
    const device = await registry.amend(id, by, action, (before) => ({
      ...before,
      approvedRoutes: routes(before.approvedRoutes),
    }));
    switchboard.changed(device.id);
    return device;
  };
  return [
    route({
      method: "GET",
      path: "/routes",
      summary: "The routes through devices, offered or approved",
      scope: "devices:read",
      answer: routeList,
      run: ({ caller }) => ({
        routes: [...registry.devices.values()]
          .filter((device) => isMember(device) && reach.has(caller, device.userId))
          .flatMap((device) => describeRoutes(device, parts)),
      }),
    }),
    route({
      method: "POST",
      path: "/devices/:id/routes",
      summary: "Approve a route through a device, by id or name, be it offered yet or not",
      scope: "devices:write",
      body: routeRequest,
      answer: routeInfo,
      async run({ param, body: { route: wanted }, caller }) {
        reach.refuseConfined(caller, "approving a route");
        const own = policies.visibility.ranges.find((range) => !isWhole(wanted) && overlap(range, wanted));
        if (own !== undefined)
          throw new Failure("route-of-network", `${wanted} is a part of ${own}, the network's own addresses`);
        const device = await amend(param("id"), caller, "route.approve", (before) => {
          if (before.length >= APPROVED_ROUTES_MAX)
            throw new Failure("routes-full", `a device has at most ${APPROVED_ROUTES_MAX} approved routes`);
          return [...new Set([...before, wanted])].sort();
        });
        return describeRoute(device, wanted, parts);
      },
    }),
    route({
      method: "POST",
      path: "/devices/:id/routes/withdraw",
      summary: "Take an administrator's approval of a route back; the policy's, and an exit node's own, stay",
      scope: "devices:write",
      body: routeRequest,
      answer: routeInfo,
      async run({ param, body, caller }) {
        reach.refuseConfined(caller, "withdrawing a route");
        const device = await amend(param("id"), caller, "route.withdraw", (before) =>
          before.filter((one) => one !== body.route),
        );
        return describeRoute(device, body.route, parts);
      },
    }),
  ];
}

type Amendment = [
  id: string,
  by: Parameters<ApiParts["registry"]["amend"]>[1],
  action: string,
  routes: (before: readonly Cidr[]) => Cidr[],
];

const describeRoutes = (device: Device, parts: ApiParts): RouteInfo[] =>
  [...new Set([...device.report.routes, ...device.approvedRoutes])].map((one) => describeRoute(device, one, parts));

function describeRoute(device: Device, one: Cidr, { policies }: ApiParts): RouteInfo {
  const approvedBy = approverOf(device, one, policies.visibility.routesOf(device));
  return {
    device: device.name,
    route: one,
    ...(approvedBy === undefined ? {} : { approvedBy }),
    offered: device.report.routes.includes(one),
  };
}

function approverOf(device: Device, one: Cidr, approved: readonly Cidr[]): RouteInfo["approvedBy"] {
  if (device.role === "exit-node" && DEFAULT_ROUTES.includes(one)) return "role";
  if (device.approvedRoutes.includes(one)) return "administrator";
  return approved.includes(one) ? "policy" : undefined;
}
