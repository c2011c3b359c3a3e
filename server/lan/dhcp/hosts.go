package dhcp

import (
	"context"
	"sync"
	"time"
)

const (
	maxHosts   = 65536
	hostFresh  = 2 * time.Second
	hostLookup = time.Second // longest wait for the directory
)

// hostCache keeps what the directory said, for when it cannot say it again.
type hostCache struct {
	mu sync.Mutex
	m  map[string]cachedHost
}

type cachedHost struct {
	host Host
	at   time.Time
}

// lookup asks the directory, unless it did so just now. With an error the
// answer is the last one, of whatever age, and the error nil if there is one.
func (c *hostCache) lookup(ctx context.Context, d Directory, r *Request, now time.Time) (Host, error) {
	c.mu.Lock()
	old, ok := c.m[r.MAC]
	c.mu.Unlock()
	if age := now.Sub(old.at); ok && age >= 0 && age < hostFresh {
		return old.host, nil
	}
	ctx, cancel := context.WithTimeout(ctx, hostLookup)
	defer cancel()
	h, err := d.Lookup(ctx, r.MAC, r.UUID, r.HostName)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if !ok {
			return Host{}, err
		}
		// The next request need not wait for the directory, either.
		c.m[r.MAC] = cachedHost{old.host, now}
		return old.host, nil
	}
	if c.m == nil {
		c.m = map[string]cachedHost{}
	}
	if _, there := c.m[r.MAC]; !there && len(c.m) >= maxHosts {
		// Strangers make room first: a flood of made-up addresses must not push out
		// machines that are known.
		for k, v := range c.m {
			if !v.host.Known || h.Known {
				delete(c.m, k)
				break
			}
		}
		if len(c.m) >= maxHosts {
			return h, nil
		}
	}
	c.m[r.MAC] = cachedHost{h, now}
	return h, nil
}
