package main

import (
	"context"
	"fmt"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/mirror"
)

// useMirrors adds the mirrors that the catalog names to client, and finds out
// which is the nearest. What is wrong with them is said; the boot goes on with
// the others.
func (s *session) useMirrors(ctx context.Context, client *mirror.Client, c *catalog.Catalog) {
	before := len(client.URLs())
	if err := addMirrors(ctx, client, c); err != nil {
		s.say("%s", explain(part("mirrors", err)))
	}
	n := len(client.URLs())
	if n > before {
		client.SetOrder(s.remembered())
		client.Measure(ctx)
		s.line.mark("mirrors")
	}
	s.preferMirror(client)
	if n > 1 {
		s.say("%s", mirrorLine(client.Measurements()))
	}
}

// addMirrors adds the mirrors that the catalog names to client.
func addMirrors(ctx context.Context, client *mirror.Client, c *catalog.Catalog) error {
	list, err := c.Mirrors(ctx)
	if err != nil {
		return err
	}
	urls := make([]string, len(list))
	for i, m := range list {
		urls[i] = m.URL
	}
	return client.Add(urls)
}

// mirrorLine says which mirror is used.
func mirrorLine(list []mirror.Measurement) string {
	line := fmt.Sprintf("%d mirrors, nearest %s", len(list), list[0].URL)
	if rtt := list[0].RTT; rtt > 0 {
		line += fmt.Sprintf(" (%d ms)", max(1, rtt.Round(time.Millisecond).Milliseconds()))
	}
	return line
}

// offlineURLs returns where the store is, as far as that is known without a
// network: the target may get one.
func (s *session) offlineURLs(ctx context.Context) []string {
	client, err := mirror.New(s.set.URLs, mirror.Options{})
	if err != nil {
		return s.set.URLs
	}
	defer client.Close()
	// A list that the cache does not have is no loss that matters now.
	_ = addMirrors(ctx, client, s.store.catalog)
	client.SetOrder(s.remembered())
	return client.URLs()
}
