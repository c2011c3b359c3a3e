// Command preboot is the program on InetBoot's boot media. It is the only
// process of a small Linux system: it gets onto the network, shows the
// publisher's menu, downloads what is chosen, and starts it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// builtAt is the time of the medium's build in seconds since 1970, set by the
// linker (-X main.builtAt=...). A machine's clock cannot be earlier.
var builtAt string

func main() {
	if err := run(context.Background(), os.Args[1:], os.Getpid()); err != nil {
		fmt.Fprintln(os.Stderr, "preboot:", err)
		os.Exit(1)
	}
}

// run is the first process's supervisor, or, as its child, the boot itself:
// so a fault of the latter can still be shown and acted upon.
func run(ctx context.Context, args []string, pid int) error {
	switch {
	case pid == 1:
		return supervise(ctx)
	case len(args) == 1 && args[0] == sessionArg:
		return runSession(ctx)
	}
	return errors.New("this is the program of a boot medium and runs as its /init: build a medium with `make iso`")
}
