/*
 * browser.h - requests that a page in a browser makes: which hosts and sites they may be
 * of.
 *
 * A page of any site can have the browser ask a server on its user's host or network.
 * What it may not do is read the answer; unless its own name is made to mean that
 * server's address (DNS rebinding), which the Host header shows. So a Host that is none
 * of the server's is refused; and what another site's page asks for (Sec-Fetch-Site, W3C
 * Fetch Metadata; without it, an Origin of another host than Host) unless cors_origins
 * names the page's origin. A link that is followed is no such request: it shows a page to
 * its reader alone. Programs send neither and notice nothing.
 *
 * Lists are texts, "a.example, b.example", borrowed. Pure but for gethostname(2).
 */
#ifndef RUNTIME_BROWSER_H
#define RUNTIME_BROWSER_H

#include "runtime/http.h"

/* Whether something in a list for `hosts` or `origins` below can never match; `why` names
 * it and its form. */
#define BROWSER_WHY_BYTES 256
bool browser_hosts_wrong(const char *list, char why[BROWSER_WHY_BYTES]);
bool browser_origins_wrong(const char *list, char why[BROWSER_WHY_BYTES]);

struct browser_rules {
    const char *listen;  /* HOST:PORT as in the option */
    const char *address; /* what it came out as */
    const char *hosts;   /* hosts_allowed: names beside the server's own; "*": any */
    const char *origins; /* cors_origins: "https://app.example.org"; "*": any; "": none */
    const char *methods; /* for preflights: "GET, HEAD" */
};

enum browser_verdict {
    BROWSER_FINE,
    BROWSER_PREFLIGHT, /* to be answered with 204 */
    BROWSER_REFUSED    /* with 403 and `why` */
};

/*
 * Look at a request when its head is there. Adds what a browser needs to the headers of
 * its answer. Own hosts are loopback's, the address and name of `listen`, the machine's
 * name; any IP address where `listen` is all addresses; and where there is no Host at
 * all.
 */
enum browser_verdict browser_meet(const struct browser_rules *rules,
                                  struct http_request *request,
                                  char why[BROWSER_WHY_BYTES]);

#endif
