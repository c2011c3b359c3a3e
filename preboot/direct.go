package main

import (
	"context"
	"fmt"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/preboot/boot"
	"github.com/inetboot/inetboot/preboot/form"
	"github.com/inetboot/inetboot/preboot/imageurl"
	"github.com/inetboot/inetboot/preboot/menu"
	"github.com/inetboot/inetboot/preboot/network"
)

// errUnverified is returned for an image that nobody vouches for, if the
// person does not want it.
var errUnverified = fmt.Errorf("the image is in no catalog and its digest is not known: %w", errCancelled)

// typeURL lets a person type the URL of an image.
func (s *session) typeURL(ctx context.Context) (string, bool) {
	const id = "url"
	f := form.New(form.Options{
		Title: "InetBoot: start an image by its URL",
		Text:  "The URL of the image's manifest: of one in a store, BASE/catalog/targets/images/.../SHA256.ARCH.json or BASE/files/SHA256, which proves by its name what it is; or of any other, BASE/NAME, with #sha256=HEX behind it, or without, which you are asked about.",
		Fields: []form.Field{
			{ID: id, Label: "URL of the manifest", Above: true, Value: "http://", Max: 2000, Help: "Kernel, initrd and root are read from below BASE, as in a store."},
		},
		Submit: "Read it and start the image",
	})
	ok := fill(ctx, s.con, f, func() (string, error) {
		_, err := imageurl.Parse(f.Value(id))
		return id, err
	})
	s.con.Scroll()
	return f.Value(id), ok
}

// changeImage makes the image of a URL the one to start.
func (s *session) changeImage(url string) error {
	return part("image", s.change("image", []string{imageurl.Option}, []string{imageurl.Option + "=" + url}))
}

// direct starts the image that a URL names. It returns only with an error.
func (s *session) direct(ctx context.Context, raw string) error {
	u, err := imageurl.Parse(raw)
	if err != nil {
		return part("image", err)
	}
	s.say("starting %s", u)
	p := &plan{id: u.String()}
	var client *mirror.Client
	open := func(ctx context.Context, c *network.Config) (err error) {
		for _, proxy := range s.proxies(c) {
			if client, err = s.newClient([]string{u.Base}, c, proxy); err != nil {
				return part("settings", err)
			}
			if p.img, err = readImage(ctx, client, u); err == nil {
				p.proxy = proxy
				return nil
			}
			client.Close()
			err = part("manifest", err)
			s.report(explain(err))
		}
		return err
	}
	s.net.Use(s.set.Network)
	if c := s.net.Config(); c != nil {
		err = open(ctx, c)
	} else {
		err = s.net.Connect(ctx, open)
	}
	if err != nil {
		return err
	}
	defer client.Close()
	if err := startable(p.img); err != nil {
		return part("manifest", err)
	}
	if !u.Known() && !s.confirmUnverified(ctx, u, p.img) {
		return part("manifest", errUnverified)
	}
	p.source = s.newSource(client)
	p.mirrors = func(context.Context) []string { return client.URLs() }
	p.line = boot.Options(p.img, nil, s.passed(p.img))
	return s.execute(ctx, p)
}

// readImage reads a manifest that no catalog lists.
func readImage(ctx context.Context, client *mirror.Client, u imageurl.URL) (*catalog.Image, error) {
	var img *catalog.Image
	_, err := client.Read(ctx, u.Path, nil, catalog.MaxTarget, func(data []byte) (err error) {
		if u.Known() {
			if err := u.Digest.Check(u.Path, data); err != nil {
				return err
			}
		}
		img, err = catalog.UnlistedImage(data)
		return err
	})
	return img, err
}

// unverifiedPause is how many seconds somebody has to say yes.
const unverifiedPause = 120

// confirmUnverified asks whether an image is to be started of which nobody has
// said what it is.
func (s *session) confirmUnverified(ctx context.Context, u imageurl.URL, img *catalog.Image) bool {
	man := img.Manifest()
	text := fmt.Sprintf("UNVERIFIED: %s says that it is %s %s. No catalog lists it, and its digest was not given: whoever is between here and there can have made it up. "+
		"Kernel of %s, initrd of %s. SHA-256 of the manifest: %s", u, man.Name, man.Version, size(man.Kernel.Size), size(man.Initrd.Size), digest.SHA256(img.Digest()))
	s.say("%s", text)
	ev := s.ask(ctx, menu.Options{
		Title: "InetBoot: an unverified image", Text: text,
		Items: []menu.Item{
			{ID: backID, Title: "Do not start it"},
			{ID: startID, Title: "Start it all the same"},
		}, Default: backID, Timeout: unverifiedPause, Back: true,
	})
	return ev.Picked != nil && ev.Picked.ID == startID
}

// serveImage starts the image that the command line names, for as long as that
// fails and nobody wants the menu. It returns when there is a menu to be had.
func (s *session) serveImage(ctx context.Context) {
	for pause := firstPause; ctx.Err() == nil && s.set.Image != ""; pause = min(2*pause, lastPause) {
		s.con.Scroll()
		err := s.direct(ctx, s.set.Image)
		if err == nil || ctx.Err() != nil {
			return
		}
		text := explainAll(err)
		s.say("%s", text)
		back, seconds := "", pause
		if s.set.Store() {
			back = "Show the store's menu"
		}
		if isCancelled(err) {
			seconds = -1
		}
		if s.failed(ctx, "the image cannot be started", text, back, seconds) == stay {
			return
		}
	}
}
