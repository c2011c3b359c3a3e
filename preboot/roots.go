package main

// The public certificate authorities, for stores that are served by HTTPS.
// They take 95 kB of the medium.
import _ "golang.org/x/crypto/x509roots/fallback"
