"""Modules in WebAssembly's text form, and one that tests are built from: what it does depends on the operation."""

from __future__ import annotations

import textwrap

import wasmtime

IMPORTS = """
(import "wapc" "__guest_request" (func $request (param i32 i32)))
(import "wapc" "__guest_response" (func $response (param i32 i32)))
(import "wapc" "__guest_error" (func $error (param i32 i32)))
(import "wapc" "__host_call" (func $host_call (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "wapc" "__host_response_len" (func $host_response_len (result i32)))
(import "wapc" "__host_response" (func $host_response (param i32)))
(import "wapc" "__host_error_len" (func $host_error_len (result i32)))
(import "wapc" "__host_error" (func $host_error (param i32)))
(import "wapc" "__console_log" (func $log (param i32 i32)))
"""

# The operation's name goes to 1024, the payload to 4096; the first letter of the name decides.
GUEST = (
    IMPORTS
    + r"""
(memory (export "memory") 2)
(global $calls (mut i32) (i32.const 0))
(global $wide (mut i64) (i64.const 7))
(global $ratio (mut f64) (f64.const 0.5))
(data (i32.const 16) "it is done")
(func (export "wapc_init") (i32.store (i32.const 512) (i32.const 41)))
(func $grow (param i32) (result i32) (memory.grow (local.get 0)))
(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))
(func (export "__guest_call") (param $op i32) (param $len i32) (result i32)
  (local $letter i32)
  (call $request (i32.const 1024) (i32.const 4096))
  (local.set $letter (i32.load8_u (i32.const 1024)))
  ;; echo
  (if (i32.eq (local.get $letter) (i32.const 101)) (then
    (call $response (i32.const 4096) (local.get $len)) (return (i32.const 1))))
  ;; fail
  (if (i32.eq (local.get $letter) (i32.const 102)) (then
    (call $error (i32.const 16) (i32.const 10)) (return (i32.const 0))))
  ;; silent failure
  (if (i32.eq (local.get $letter) (i32.const 115)) (then (return (i32.const 0))))
  ;; nothing
  (if (i32.eq (local.get $letter) (i32.const 110)) (then (return (i32.const 1))))
  ;; trap
  (if (i32.eq (local.get $letter) (i32.const 116)) (then (unreachable)))
  ;; loop
  (if (i32.eq (local.get $letter) (i32.const 108)) (then (loop $again (br $again))))
  ;; recurse
  (if (i32.eq (local.get $letter) (i32.const 114)) (then (return (call $deep (i32.const 0)))))
  ;; memory: grow by 16 MiB and, if it is refused, trap
  (if (i32.eq (local.get $letter) (i32.const 109)) (then
    (if (i32.eq (call $grow (i32.const 256)) (i32.const -1)) (then (unreachable)))
    (return (i32.const 1))))
  ;; page: how much memory there is, after asking for a page more
  (if (i32.eq (local.get $letter) (i32.const 112)) (then
    (drop (call $grow (i32.const 1)))
    (i32.store8 (i32.const 0) (memory.size))
    (call $response (i32.const 0) (i32.const 1)) (return (i32.const 1))))
  ;; outside: respond from beyond memory
  (if (i32.eq (local.get $letter) (i32.const 111)) (then
    (call $response (i32.const -16) (i32.const 64)) (return (i32.const 1))))
  ;; big: a response of 1 MiB is announced
  (if (i32.eq (local.get $letter) (i32.const 98)) (then
    (call $response (i32.const 0) (i32.const 131072)) (return (i32.const 1))))
  ;; count: what memory and globals remember
  (if (i32.eq (local.get $letter) (i32.const 99)) (then
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (global.set $wide (i64.add (global.get $wide) (i64.const 1)))
    (global.set $ratio (f64.mul (global.get $ratio) (f64.const 2)))
    (i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 1)))
    (i32.store (i32.const 70000) (i32.add (i32.load (i32.const 70000)) (i32.const 1)))
    (i32.store8 (i32.const 0) (global.get $calls))
    (i32.store8 (i32.const 1) (i32.wrap_i64 (global.get $wide)))
    (i32.store8 (i32.const 2) (i32.trunc_f64_s (global.get $ratio)))
    (i32.store8 (i32.const 3) (i32.load (i32.const 512)))
    (i32.store8 (i32.const 4) (i32.load (i32.const 70000)))
    (call $response (i32.const 0) (i32.const 5)) (return (i32.const 1))))
  ;; write: log the payload twice
  (if (i32.eq (local.get $letter) (i32.const 119)) (then
    (call $log (i32.const 4096) (local.get $len))
    (call $log (i32.const 4096) (local.get $len)) (return (i32.const 1))))
  ;; host call: of the operation behind the first letter
  (if (i32.eq (local.get $letter) (i32.const 104)) (then
    (if (call $host_call (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1025)
          (i32.sub (local.get $op) (i32.const 1)) (i32.const 4096) (local.get $len))
      (then
        (call $host_response (i32.const 65536))
        (call $response (i32.const 65536) (call $host_response_len))
        (return (i32.const 1)))
      (else
        (call $host_error (i32.const 65536))
        (call $error (i32.const 65536) (call $host_error_len))
        (return (i32.const 0))))))
  (call $error (i32.const 1024) (local.get $op))
  (i32.const 0))
"""
)

# Adds, multiplies and compares small numbers in MessagePack, for chains.
ARITHMETIC = (
    IMPORTS
    + r"""
(memory (export "memory") 1)
(func $answer (param i32) (result i32)
  (i32.store8 (i32.const 0) (local.get 0)) (call $response (i32.const 0) (i32.const 1)) (i32.const 1))
(func (export "__guest_call") (param $op i32) (param $len i32) (result i32)
  (call $request (i32.const 1024) (i32.const 4096))
  ;; double
  (if (i32.eq (i32.load8_u (i32.const 1024)) (i32.const 100)) (then
    (return (call $answer (i32.mul (i32.load8_u (i32.const 4096)) (i32.const 2))))))
  ;; even
  (if (i32.eq (i32.load8_u (i32.const 1024)) (i32.const 101)) (then
    (return (call $answer
      (select (i32.const 0xc2) (i32.const 0xc3) (i32.and (i32.load8_u (i32.const 4096)) (i32.const 1)))))))
  ;; add, of an array of two
  (if (i32.eq (i32.load8_u (i32.const 1024)) (i32.const 97)) (then
    (return (call $answer (i32.add (i32.load8_u (i32.const 4097)) (i32.load8_u (i32.const 4098)))))))
  ;; twice: the value two times
  (if (i32.eq (i32.load8_u (i32.const 1024)) (i32.const 116)) (then
    (i32.store8 (i32.const 0) (i32.const 0x92))
    (i32.store8 (i32.const 1) (i32.load8_u (i32.const 4096)))
    (i32.store8 (i32.const 2) (i32.load8_u (i32.const 4096)))
    (call $response (i32.const 0) (i32.const 3))
    (return (i32.const 1))))
  (call $error (i32.const 1024) (local.get $op))
  (i32.const 0))
"""
)


def module(fields: str) -> bytes:
    """A module of these fields, as bytes."""
    return bytes(wasmtime.wat2wasm(f"(module {textwrap.dedent(fields)})"))
